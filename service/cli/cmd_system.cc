// config, doctor, completion.
#include <langinfo.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <clocale>
#include <cstdlib>
#include <filesystem>

#include "base/cpu_target.h"
#include "base/file.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "service/cli/app.h"

namespace lectern::cli {
namespace {

struct Check {
  std::string name;
  bool fine = true;
  std::string found;
};

std::vector<Check> RunChecks(Context& context) {
  std::vector<Check> checks;
  const service::Engine& engine = *context.engine;
  checks.push_back({"cpu", ActiveCpuTarget() >= CpuTarget::kAvx2,
                    internal::Concat(CpuTargetName(ActiveCpuTarget()), ", ", ThreadPool::HardwareThreads(), " threads")});
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  checks.push_back({"open files", files.rlim_cur >= 1024, internal::Concat("limit ", files.rlim_cur, files.rlim_cur >= 1024 ? "" : ", 1024 are wanted")});

  // The disk of the nearest folder that exists: the data directory may not be made yet.
  std::error_code error;
  std::filesystem::path at = std::filesystem::absolute(engine.data_dir(), error);
  while (at.has_relative_path() && !std::filesystem::exists(at, error)) at = at.parent_path();
  struct statvfs disk{};
  if (statvfs(at.c_str(), &disk) != 0) {
    checks.push_back({"disk", false, "cannot ask for the free space of " + at.string()});
  } else {
    const int64_t free_bytes = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
    checks.push_back({"disk", free_bytes > (int64_t{1} << 30), service::FormatBytes(free_bytes) + " free for " + engine.data_dir()});
  }
  const int64_t memory = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  const int64_t budget = context.config().Int("index.memory_bytes");
  checks.push_back({"memory", budget <= memory / 2, internal::Concat("ingest and index building stay under ", service::FormatBytes(budget), " (index.memory_bytes) of ",
                                                                     service::FormatBytes(memory))});
  std::setlocale(LC_CTYPE, "");
  const std::string codeset = nl_langinfo(CODESET);
  checks.push_back({"locale", codeset == "UTF-8", codeset + (codeset == "UTF-8" ? "" : "; texts are printed in UTF-8: set LC_ALL=C.UTF-8")});
  const bool directory = index::DataDirectory::LooksLikeOne(engine.data_dir());
  if (directory) {
    auto manifest = index::DataDirectory::ReadManifest(engine.data_dir());
    checks.push_back({"data directory", manifest.ok(),
                      manifest.ok() ? internal::Concat(engine.data_dir(), ", manifest ", manifest->number, ", ", manifest->collections.size(), " collections")
                                    : std::string(manifest.status().message())});
  } else {
    checks.push_back({"data directory", true, "none at " + engine.data_dir() + " yet; `lectern ingest` makes one"});
  }
  for (const char* key : {"reader.model", "models.embed"}) {
    const std::string& model = context.config().String(key);
    if (model == "none") {
      checks.push_back({key, true, "none"});
      continue;
    }
    auto record = engine.models().Inspect(model);
    checks.push_back({key, record.ok(), record.ok() ? record->architecture + ", " + service::FormatBytes(record->bytes) + ", " + record->path
                                                    : std::string(record.status().message())});
  }
  checks.push_back({"gpu", true, "not used by this build"});
  return checks;
}

absl::StatusOr<int> Doctor(Context& context, bool strict) {
  int warnings = 0;
  for (const Check& check : RunChecks(context)) {
    warnings += !check.fine;
    if (context.flags.json) context.terminal->Json({{"check", check.name}, {"ok", check.fine}, {"found", check.found}});
    else context.terminal->Line((check.fine ? "ok    " : "warn  ") + check.name + ": " + check.found);
  }
  return strict && warnings > 0 ? kThresholdNotMet : kOk;
}

// From the table that parses.
std::string Completion(const Program& program, const std::string& shell) {
  const std::map<std::string, std::string> words = program.Words();
  std::string out;
  if (shell == "fish") {
    for (const auto& [path, line] : words) {
      std::string condition = "__fish_use_subcommand";
      if (!path.empty()) condition = "__fish_seen_subcommand_from " + path.substr(path.find_last_of(' ') + 1);
      out += "complete -c lectern -n '" + condition + "' -a '" + line + "'\n";
    }
    return out;
  }
  if (shell == "zsh") out += "#compdef lectern\nautoload -U +X bashcompinit && bashcompinit\n";
  // A word that continues the path of commands is one of them; any other is a flag, its value or an argument.
  out += "_lectern() {\n  local current=\"${COMP_WORDS[COMP_CWORD]}\" path=\"\" known=\"|";
  for (const auto& [path, line] : words) out += path + "|";
  out += "\" word next words\n"
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    next=\"${path:+$path }$word\"\n"
         "    case \"$known\" in *\"|$next|\"*) path=\"$next\" ;; esac\n  done\n  case \"$path\" in\n";
  for (const auto& [path, line] : words) out += "      \"" + path + "\") words=\"" + line + "\" ;;\n";
  out += "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n}\ncomplete -o default -F _lectern lectern\n";
  return out;
}

}  // namespace

void RegisterSystem(Registry& registry) {
  CommandLine config = registry.Add("config", "settings and where they come from", nullptr);
  auto origin = std::make_shared<bool>(false);
  CommandLine print = registry.Add("print", "the settings in force", [origin](Context& c) -> absl::StatusOr<int> {
    if (c.flags.json) c.terminal->Json(c.config().ToJson(*origin));
    else c.terminal->Out(c.config().ToToml(*origin));
    return kOk;
  }, config);
  print.Flag("--origin", *origin, "say where each value comes from");
  registry.Add("check", "read the settings and say whether they are valid", [](Context& c) -> absl::StatusOr<int> {
    c.terminal->Result({{"valid", true}}, "the settings are valid");   // an invalid one has stopped the program before
    return kOk;
  }, config);
  registry.Add("schema", "JSON schema of the settings", [](Context& c) -> absl::StatusOr<int> {
    Json schema = service::Config::JsonSchema();
    for (auto& [key, property] : schema["properties"].items()) {
      property["flags"] = {"--set " + key + "=VALUE"};
      if (const auto own = c.setting_flags.find(key); own != c.setting_flags.end()) {
        for (const std::string& flag : own->second) property["flags"].push_back(flag);
      }
    }
    c.terminal->Line(DumpJson(schema, 2));
    return kOk;
  }, config);

  auto strict = std::make_shared<bool>(false);
  CommandLine doctor = registry.Add("doctor", "check limits, disk, processor and models", [strict](Context& c) { return Doctor(c, *strict); });
  doctor.Flag("--strict", *strict, "exit 9 on any warning");

  CommandLine completion = registry.Add("completion", "shell completion", nullptr);
  for (const char* shell : {"bash", "zsh", "fish"}) {
    registry.Add(shell, internal::Concat("completion for ", shell), [program = &registry.program, shell](Context& c) -> absl::StatusOr<int> {
      c.terminal->Out(Completion(*program, shell));
      return kOk;
    }, completion);
  }
}

}  // namespace lectern::cli
