// service/cli/command_line.h: the one door to the command-line library, which costs every file that sees it seven seconds.
//
//   Program program("lectern", "Index documents, ...");
//   CommandLine search = program.root().Add("search", "find documents", [&] { chosen = ...; });
//   search.Option("--k", k, "hits").OneOf({"10", "100"});
//   search.Flag("--chunks", chunks, "list every chunk");
//   ASSIGN_OR_RETURN(std::optional<int> exit_code, program.Parse(argc, argv));
//
// Shapes:  names as CLI11 takes them: "--long", "-s,--long", "POSITIONAL". A value is written when parsing meets it.
// Threads: the main thread.
// Errors:  Parse: kInvalidArgument with the library's message; kUnimplemented for a flag that is refused by name.
// Cost:    none worth a word.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace lectern::cli {

// An option just added, to say more about it.
class OptionHandle {
 public:
  explicit OptionHandle(CLI::Option* option) : option_(option) {}
  OptionHandle Required();
  OptionHandle ShowDefault();
  OptionHandle OneOf(std::vector<std::string> values);
  OptionHandle Environment(const std::string& variable);
  OptionHandle Hidden();
  OptionHandle TakesOne();   // of a list: one value each time it is given

 private:
  CLI::Option* option_;
};

// The flags and arguments of one command, or of the program.
class CommandLine {
 public:
  CommandLine() = default;   // none
  explicit CommandLine(CLI::App* app) : app_(app) {}
  explicit operator bool() const { return app_ != nullptr; }
  OptionHandle Option(const std::string& name, std::string& value, const std::string& help);
  OptionHandle Option(const std::string& name, int& value, const std::string& help);
  OptionHandle Option(const std::string& name, int64_t& value, const std::string& help);
  OptionHandle Option(const std::string& name, uint32_t& value, const std::string& help);
  OptionHandle Option(const std::string& name, uint64_t& value, const std::string& help);
  OptionHandle Option(const std::string& name, double& value, const std::string& help);
  OptionHandle Option(const std::string& name, std::optional<int64_t>& value, const std::string& help);
  OptionHandle Option(const std::string& name, std::optional<double>& value, const std::string& help);
  OptionHandle Option(const std::string& name, std::vector<std::string>& value, const std::string& help);
  OptionHandle OptionFunction(const std::string& name, std::function<void(const std::string&)> take, const std::string& help);
  OptionHandle Flag(const std::string& name, bool& value, const std::string& help);
  OptionHandle Flag(const std::string& name, int& times, const std::string& help);   // counts
  // A flag that this build knows by name and does not obey: given, parsing ends with kUnimplemented. Not in the help.
  void Refuse(const std::string& name, const std::string& why);
  std::string path() const;   // "eval search ": the names below the program, each with a blank behind it
  // A subcommand; `chosen` is called when parsing is through. Without it one of its own subcommands must follow.
  CommandLine Add(const std::string& name, const std::string& help, std::function<void()> chosen);
  // Neither is in the help. Anything: all that follows is taken unread. Extras: what the program knows is still read.
  void TakeAnything();
  void TakeExtras();

 private:
  CLI::App* app_ = nullptr;
};

class Program {
 public:
  Program(const std::string& name, const std::string& help);
  ~Program();
  CommandLine root() { return CommandLine(app_.get()); }
  // --version and --help-all: after the options of the program, before its commands, which have the second too.
  void AddVersionAndHelp(const std::string& version);
  // The exit code where parsing printed what was asked for (--help, --version); nullopt where a command was chosen.
  absl::StatusOr<std::optional<int>> Parse(int argc, char** argv);
  // Every command path ("", "eval", "eval score") with the words that may follow it: subcommands and long options.
  std::map<std::string, std::string> Words() const;

 private:
  std::unique_ptr<CLI::App> app_;
};

}  // namespace lectern::cli
