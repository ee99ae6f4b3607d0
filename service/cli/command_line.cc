#include "service/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <utility>

namespace lectern::cli {
namespace {

struct Refusal {
  std::string message;
};

void Collect(const CLI::App* app, const std::string& path, std::map<std::string, std::string>& words) {
  std::string& line = words[path];
  for (const CLI::App* sub : app->get_subcommands([](const CLI::App*) { return true; })) {
    if (sub->get_group().empty()) continue;
    line += sub->get_name() + " ";
    Collect(sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), words);
  }
  for (const CLI::Option* option : app->get_options()) {
    if (option->get_group().empty()) continue;
    for (const std::string& name : option->get_lnames()) line += "--" + name + " ";
  }
}

// The command chosen so far, "lectern eval" for instance.
std::string ChosenCommand(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return app.get_name() + (chosen.empty() ? "" : " " + ChosenCommand(*chosen.back()));
}

// What the parser's own message leaves to guess.
std::string Hint(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> left = app.remaining(/*recurse=*/true);
  const bool like_flag = !left.empty() && left[0].starts_with('-');
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return like_flag ? " (what stands behind -- is no flag)" : "";
  if (dynamic_cast<const CLI::RequiredError*>(&error) == nullptr || std::string_view(error.what()).find("subcommand") == std::string_view::npos) return "";
  const std::string wrong = left.empty() ? "" : internal::Concat("there is no ", like_flag ? "flag " : "command ", left[0], ", ");
  return internal::Concat("; ", wrong, "`", ChosenCommand(app), " --help` lists them");
}

}  // namespace

OptionHandle OptionHandle::Required() { return OptionHandle(option_->required()); }
OptionHandle OptionHandle::ShowDefault() { return OptionHandle(option_->capture_default_str()); }
OptionHandle OptionHandle::OneOf(std::vector<std::string> values) { return OptionHandle(option_->check(CLI::IsMember(std::move(values)))); }
OptionHandle OptionHandle::Environment(const std::string& variable) { return OptionHandle(option_->envname(variable)); }
OptionHandle OptionHandle::Hidden() { return OptionHandle(option_->group("")); }
OptionHandle OptionHandle::TakesOne() { return OptionHandle(option_->expected(1)->take_all()); }

#define LECTERN_OPTION(...)                                                                                   \
  OptionHandle CommandLine::Option(const std::string& name, __VA_ARGS__& value, const std::string& help) {    \
    return OptionHandle(app_->add_option(name, value, help));                                                 \
  }
LECTERN_OPTION(std::string)
LECTERN_OPTION(int)
LECTERN_OPTION(int64_t)
LECTERN_OPTION(uint32_t)
LECTERN_OPTION(uint64_t)
LECTERN_OPTION(double)
LECTERN_OPTION(std::optional<int64_t>)
LECTERN_OPTION(std::optional<double>)
LECTERN_OPTION(std::vector<std::string>)
#undef LECTERN_OPTION

OptionHandle CommandLine::OptionFunction(const std::string& name, std::function<void(const std::string&)> take, const std::string& help) {
  return OptionHandle(app_->add_option_function<std::string>(name, std::move(take), help));
}

OptionHandle CommandLine::Flag(const std::string& name, bool& value, const std::string& help) {
  return OptionHandle(app_->add_flag(name, value, help));
}

OptionHandle CommandLine::Flag(const std::string& name, int& times, const std::string& help) {
  return OptionHandle(app_->add_flag(name, times, help));
}

void CommandLine::Refuse(const std::string& name, const std::string& why) {
  app_->add_flag_function(name, [name, why](int64_t) { throw Refusal{name + ": " + why}; })->group("");
}

std::string CommandLine::path() const {
  std::string path;
  for (const CLI::App* app = app_; app->get_parent() != nullptr; app = app->get_parent()) path = app->get_name() + " " + path;
  return path;
}

CommandLine CommandLine::Add(const std::string& name, const std::string& help, std::function<void()> chosen) {
  CLI::App* command = app_->add_subcommand(name, help);
  command->fallthrough();
  if (chosen != nullptr) {
    command->callback(std::move(chosen));
  } else {
    command->require_subcommand(1);
  }
  return CommandLine(command);
}

void CommandLine::TakeAnything() { app_->group("")->fallthrough(false)->prefix_command(); }
void CommandLine::TakeExtras() { app_->group("")->allow_extras(); }

Program::Program(const std::string& name, const std::string& help) : app_(std::make_unique<CLI::App>(help, name)) {
  app_->require_subcommand(1);
}

Program::~Program() = default;

void Program::AddVersionAndHelp(const std::string& version) {
  app_->set_version_flag("--version", version);
  app_->set_help_all_flag("--help-all", "help of every command");
}

absl::StatusOr<std::optional<int>> Program::Parse(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app_->exit(error);
    return InvalidArgument(error.what(), Hint(*app_, error));
  } catch (const Refusal& refusal) {
    return NotSupported(refusal.message);
  }
  return std::nullopt;
}

std::map<std::string, std::string> Program::Words() const {
  std::map<std::string, std::string> words;
  Collect(app_.get(), "", words);
  return words;
}

}  // namespace lectern::cli
