// eval citations: true answer sentences and the same made false by rule: which keep a citation?
#include <cstdio>
#include <map>
#include <optional>

#include "base/json.h"
#include "service/cli/answering.h"
#include "service/cli/cmd_eval_answers.h"
#include "service/eval/answer_report.h"
#include "service/eval/spoil.h"

namespace lectern::cli {
namespace answer = service::answer;
namespace {

struct Args {
  std::string collection, questions, predictions, format = "text";
  int64_t limit = 0;
  uint64_t seed = 7;
  bool per_query = false;
  SearchFlags search;
};

struct Case {
  std::string question_id, kind, text, why;   // kind "true": as the reader wrote it
  bool cited = false;
};

// Sentences of a reply that hold an accepted answer: true as far as the answer key can tell, whether they were cited or not.
std::vector<std::string> TrueSentences(const eval::EvalQuestion& question, const std::string& reply) {
  std::vector<std::string> out;
  for (const answer::ByteRange& range : answer::SplitSentences(reply)) {
    std::string sentence = reply.substr(range.begin, range.end - range.begin);
    const bool ended = sentence.ends_with('.') || sentence.ends_with('!');   // a reply cut short or a bare phrase is no sentence
    if (ended && eval::ContainsAnswer(sentence, question.answers) > 0) out.push_back(std::move(sentence));
  }
  return out;
}

absl::StatusOr<std::vector<Case>> Judge(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const std::vector<eval::EvalQuestion> questions, eval::ReadQuestions(args.questions));
  ASSIGN_OR_RETURN(const eval::AnswerFile answers, eval::ReadAnswers(args.predictions));
  std::optional<PassageSearch> search;
  index::Encoder* encoder = nullptr;
  std::string why;
  if (!args.collection.empty()) {
    ASSIGN_OR_RETURN(search, PassageSearch::Open(context, args.search, args.collection));
    encoder = search->encoder();
  } else {
    ASSIGN_OR_RETURN(encoder, context.engine->EncoderNamed("", &why));
  }
  const answer::Similarity similarity = answer::EncoderSimilarity(encoder);
  struct Item {
    const eval::EvalQuestion* question;
    std::vector<std::string> sentences;
  };
  std::vector<Item> items;
  for (const eval::EvalQuestion& question : questions) {
    const auto at = answers.answers.find(question.id);
    if (at == answers.answers.end() || question.answers.empty()) continue;
    std::vector<std::string> sentences = TrueSentences(question, at->second.reply);
    if (!sentences.empty()) items.push_back({&question, std::move(sentences)});
    if (args.limit > 0 && static_cast<int64_t>(items.size()) == args.limit) break;
  }
  if (items.empty()) return InvalidArgument(args.predictions, ": no reply has a whole sentence with an accepted answer (take --answer-mode prose)");
  std::vector<Case> cases;
  Progress progress(*context.terminal, "judge", static_cast<int64_t>(items.size()), "questions");
  for (size_t i = 0; i < items.size(); ++i) {
    progress.Update(static_cast<int64_t>(i));
    RETURN_IF_ERROR(CheckCancel(&InterruptToken()));
    const eval::EvalQuestion& question = *items[i].question;
    answer::AnswerRequest request;
    if (search) {
      RETURN_IF_ERROR(search->Find(question.question, &request).status());
    } else {
      if (question.context.empty()) return InvalidArgument("question ", question.id, " has no passage of its own: name a COLLECTION");
      request.passages.push_back({.doc_id = question.id, .text = question.context});
    }
    std::string around;
    for (const answer::Passage& passage : request.passages) {
      around += passage.text + "\n";
    }
    const std::vector<std::string>& elsewhere = items[(i + items.size() / 2 + 1) % items.size()].sentences;
    const auto judge = [&](std::string kind, std::string text, const std::string& in_title) {
      std::vector<std::string> titles;
      for (const answer::Passage& passage : request.passages) titles.push_back(passage.title + (passage.title.empty() || in_title.empty() ? "" : ", ") + in_title);
      std::vector<answer::Source> sources;
      for (size_t p = 0; p < titles.size(); ++p) sources.push_back({titles[p], request.passages[p].text, {}});
      const answer::Support support = answer::JudgeSupport(text, sources, similarity);
      cases.push_back({question.id, std::move(kind), std::move(text), support.why, support.supported});
    };
    for (size_t s = 0; s < items[i].sentences.size(); ++s) {
      const std::string& sentence = items[i].sentences[s];
      judge("true", sentence, {});
      for (eval::Spoiled& spoiled : eval::SpoilSentence(sentence, around, {.seed = args.seed + i * 100 + s, .elsewhere = elsewhere})) {
        judge(std::string(eval::SpoilingName(spoiled.kind)), std::move(spoiled.text), spoiled.in_title);
      }
    }
  }
  return cases;
}

absl::StatusOr<int> Run(Context& context, const Args& args) {
  ASSIGN_OR_RETURN(const std::vector<Case> cases, Judge(context, args));
  // true sentences should keep their citation, the others lose it
  std::map<std::string, std::vector<double>> by_kind;
  for (const Case& c : cases) {
    by_kind[c.kind].push_back(c.kind == "true" ? c.cited : !c.cited);
    if (c.kind != "true") by_kind["all spoiled"].push_back(!c.cited);
  }
  Json rows = Json::array();
  std::string text = "sentences\tn\tjudged well\t95 % interval\n";
  for (const char* kind : {"true", "all spoiled", "number", "name", "negation", "elsewhere", "title"}) {
    if (!by_kind.contains(kind)) continue;
    const eval::Interval mean = eval::BootstrapMean(by_kind[kind]);
    rows.push_back({{"kind", kind}, {"n", by_kind[kind].size()}, {"judged_well", mean.mean}, {"low", mean.low}, {"high", mean.high}});
    char line[128];
    std::snprintf(line, sizeof(line), "%s\t%zu\t%.4f\t[%.4f %.4f]\n", kind, by_kind[kind].size(), mean.mean, mean.low, mean.high);
    text += line;
  }
  Json listed = Json::array();
  for (const Case& c : cases) {
    if (!args.per_query) break;
    listed.push_back({{"id", c.question_id}, {"kind", c.kind}, {"cited", c.cited}, {"text", c.text}, {"why", c.why}});
    text += internal::Concat(c.question_id, "\t", c.kind, "\t", c.cited ? "cited" : "no citation: " + c.why, "\t", c.text, "\n");
  }
  if (context.flags.json) {
    Json out = {{"rows", rows}};
    if (args.per_query) out["per_query"] = listed;
    context.terminal->Json(out);
  } else {
    context.terminal->Out(text);
  }
  return kOk;
}

}  // namespace

void RegisterEvalCitations(Registry& registry, CommandLine eval) {
  auto args = std::make_shared<Args>();
  CommandLine citations = registry.Add("citations", "spoil true answer sentences by rule and see which keep a citation",
                                     [args](Context& c) { return Run(c, *args); }, eval);
  citations.Option("COLLECTION", args->collection, "collection the answers came from; none: each question's own passage");
  citations.Option("--questions", args->questions, "as of eval answers").Required();
  citations.Option("--predictions", args->predictions, "answers file of eval answers, in prose").Required();
  citations.Option("--limit", args->limit, "questions with such a sentence at most; 0: all");
  citations.Option("--seed", args->seed, "of the spoiling").ShowDefault();
  citations.Flag("--per-query", args->per_query, "every sentence with its verdict");
  AddSearchFlags(registry, citations, args->search);
}

}  // namespace lectern::cli
