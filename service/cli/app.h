// service/cli/app.h: the command line: one function a command, one place that parses.
//
//   return lectern::cli::Main(argc, argv);
//
// Shapes:  `lectern [GLOBAL] COMMAND [ARGS]`; exit codes in terminal.h.
// Threads: the main thread.
// Errors:  a usage error prints the rule and exits 2; every other status goes through Terminal::Fail.
// Cost:    parsing loads nothing; a command opens what it needs.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "service/cli/command_line.h"
#include "service/cli/terminal.h"
#include "service/config.h"
#include "service/engine.h"

namespace lectern::cli {

// What a command runs with, made after parsing.
struct Context {
  GlobalFlags flags;
  std::map<std::string, std::string> overrides;   // settings given as flags
  std::map<std::string, std::vector<std::string>> setting_flags;   // of each setting, as "search --k"
  std::unique_ptr<Terminal> terminal;
  std::unique_ptr<service::Engine> engine;
  std::string version;
  std::optional<CancelToken::Clock::time_point> deadline;   // of --timeout
  const service::Config& config() const { return engine->config(); }
};

using Command = std::function<absl::StatusOr<int>(Context&)>;   // the exit code where it is not an error

// Registers a command; `run` is called once parsing is through.
struct Registry {
  Program& program;
  Context& context;
  Command& chosen;
  // A subcommand of `parent` (or of the program).
  CommandLine Add(const std::string& name, const std::string& help, Command run, CommandLine parent = {});
  // A flag that sets a configuration key.
  void Setting(CommandLine command, const std::string& flag, const std::string& key, const std::string& help);
  // A flag, registered already, that stands for a configuration key by the command's own doing.
  void Means(CommandLine command, const std::string& flag, const std::string& key);
};

void RegisterCollections(Registry& registry);   // init, collection, document
void RegisterIngest(Registry& registry);        // ingest, index
void RegisterSearch(Registry& registry);        // search, ask
void RegisterModels(Registry& registry);        // model, embed, rerank
void RegisterEval(Registry& registry);          // eval
void RegisterEvalManifold(Registry& registry, CommandLine eval);   // eval manifold
void RegisterSystem(Registry& registry);        // config, doctor, completion

int Main(int argc, char** argv);

}  // namespace lectern::cli
