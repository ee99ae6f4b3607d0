#include "service/cli/app.h"

#include <cstdlib>

#include "base/cpu_target.h"

#ifndef LECTERN_VERSION
#define LECTERN_VERSION "unknown"
#endif

namespace lectern::cli {
namespace {

// Commands of the public surface that this build does not have: named, so that nobody wonders.
constexpr const char* kNotInThisBuild[] = {"serve", "route", "snapshot", "export", "keys", "bench", "man"};

// KEY=VALUE of --set; a flag of the setting's own says it once more, and both may not.
absl::Status TakeSettings(const std::vector<std::string>& given, std::map<std::string, std::string>& overrides) {
  for (const std::string& one : given) {
    const size_t equals = one.find('=');
    if (equals == std::string::npos || equals == 0) return InvalidArgument("--set takes KEY=VALUE, got '", one, "'");
    if (!overrides.emplace(one.substr(0, equals), one.substr(equals + 1)).second) {
      return InvalidArgument("--set ", one, ": the setting is given twice");
    }
  }
  return absl::OkStatus();
}

}  // namespace

CommandLine Registry::Add(const std::string& name, const std::string& help, Command run, CommandLine parent) {
  std::function<void()> choose;
  if (run != nullptr) choose = [this_chosen = &chosen, run = std::move(run)] { *this_chosen = run; };
  return (parent ? parent : program.root()).Add(name, help, std::move(choose));
}

void Registry::Setting(CommandLine command, const std::string& flag, const std::string& key, const std::string& help) {
  command.OptionFunction(flag, [context = &context, key](const std::string& value) { context->overrides[key] = value; }, help);
  Means(command, flag, key);
}

void Registry::Means(CommandLine command, const std::string& flag, const std::string& key) {
  context.setting_flags[key].push_back(command.path() + flag);
}

int Main(int argc, char** argv) {
  ReserveStandardStreams();
  InstallSignalHandlers();
  Context context;
  context.version = LECTERN_VERSION;
  Command chosen;
  Program program("lectern", "Index documents, search them, and read answers whose citations are checked against the stored text.");
  CommandLine root = program.root();
  GlobalFlags& flags = context.flags;
  std::vector<std::string> set;
  Registry registry{program, context, chosen};
  root.Option("--data", flags.data, "data directory").Environment("LECTERN_DATA").ShowDefault();
  root.Option("--config", flags.config_file, "TOML file of settings (see `lectern config schema`)");
  root.Option("--set", set, "KEY=VALUE: any setting; several may be given").TakesOne();
  root.Flag("--json", flags.json, "one JSON object, or one a line, on stdout");
  root.Flag("-q,--quiet", flags.quiet, "no notes and no progress; warnings stay");
  root.Flag("-v,--verbose", flags.verbose, "more detail on stderr");
  registry.Setting(root, "--log-format", "log.format", "lines on stderr: text or json");
  root.Option("--color", flags.color, "auto, always or never").OneOf({"auto", "always", "never"});
  root.Flag("--no-progress", flags.no_progress, "no progress bar and no progress lines").Environment("LECTERN_NO_PROGRESS");
  root.Flag("-y,--yes", flags.yes, "do not ask");
  root.Option("--timeout", flags.timeout, "stop after this long: 500ms, 30s, 5m");
  root.Option("--url", flags.url, "talk to a server instead of opening the directory");

  program.AddVersionAndHelp("lectern " LECTERN_VERSION);

  RegisterCollections(registry);
  RegisterIngest(registry);
  RegisterSearch(registry);
  RegisterModels(registry);
  RegisterEval(registry);
  RegisterSystem(registry);
  for (const char* name : kNotInThisBuild) {
    registry.Add(name, "", [name](Context&) -> absl::StatusOr<int> {
      return NotSupported("`lectern ", name, "` is not part of this build");
    }).TakeAnything();
  }

  const absl::StatusOr<std::optional<int>> parsed = program.Parse(argc, argv);
  if (parsed.ok() && parsed->has_value()) return **parsed;
  if (const auto format = context.overrides.find("log.format"); format != context.overrides.end()) flags.log_format = format->second;
  context.terminal = std::make_unique<Terminal>(flags);
  if (!parsed.ok()) return context.terminal->Fail(parsed.status());
  const Terminal& terminal = *context.terminal;
  if (const char* forced = std::getenv("LECTERN_CPU"); forced != nullptr && *forced != '\0') {
    if (auto target = ParseCpuTarget(forced); !target.ok()) return terminal.Fail(Annotate(target.status(), "LECTERN_CPU"));
  }
  if (!flags.url.empty()) return terminal.Fail(NotSupported("--url: this build does not talk to a server yet"));
  if (!flags.timeout.empty()) {
    auto limit = service::ParseDurationMs(flags.timeout);
    if (!limit.ok()) return terminal.Fail(Annotate(limit.status(), "--timeout"));
    context.deadline = CancelToken::Clock::now() + std::chrono::milliseconds(*limit);
    InterruptToken().SetDeadline(*context.deadline);
  }
  if (absl::Status status = TakeSettings(set, context.overrides); !status.ok()) return terminal.Fail(status);
  auto config = service::Config::Load({.file = flags.config_file, .overrides = context.overrides});
  if (!config.ok()) return terminal.Fail(config.status());
  flags.log_level = config->String("log.level");
  flags.log_format = config->String("log.format");
  context.terminal = std::make_unique<Terminal>(flags);   // now as the settings say
  context.engine = std::make_unique<service::Engine>(flags.data, *std::move(config));
  const absl::StatusOr<int> result = chosen(context);
  return result.ok() ? *result : context.terminal->Fail(result.status());
}

}  // namespace lectern::cli
