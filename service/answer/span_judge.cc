#include "service/answer/span_judge.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>

#include "service/answer/calibration.h"
#include "service/answer/prompt.h"

namespace lectern::service::answer {
namespace {

constexpr std::string_view kRefusal = "not found";
constexpr std::string_view kMayRefuse = "\nIf the passages do not contain the answer, reply exactly \"not found\".";
constexpr std::string_view kIsItTheAnswer = "\nDo the passages say that this is the answer to the question? Reply yes or no.";
constexpr std::string_view kQuestionGiven = "Write the question about the passage that has the given answer.";
constexpr std::string_view kQuestionAlone = "Write a question that the passage answers.";

double LogSumExp(std::span<const float> logits) {
  const float peak = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x - peak));
  return peak + std::log(sum);
}

// The reader, asked about one question.
class Judge {
 public:
  Judge(LanguageModel& model, const SpanJudging& judging) : model_(model), judging_(judging) {}

  absl::StatusOr<std::vector<int32_t>> Prompt(std::string_view afterwards) const {
    return model_.EncodeChat(AnswerPrompt(judging_.packed, judging_.question.text,
                                          {.mode = AnswerMode::kSpan, .instruction = judging_.instruction, .afterwards = afterwards}));
  }

  // Log-probability of `reply`, its end included.
  absl::StatusOr<double> ReplyLogprob(std::span<const int32_t> prompt, std::string_view reply) const {
    const std::vector<int32_t> ids = model_.tokenizer().Encode(reply);
    ASSIGN_OR_RETURN(const decoder::ContinuationScore score, model_.Score(prompt, ids, judging_.cancel));
    std::vector<int32_t> tokens(prompt.begin(), prompt.end());
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    ASSIGN_OR_RETURN(const std::vector<float> logits, model_.NextLogits(tokens, judging_.cancel));
    float end = -std::numeric_limits<float>::infinity();
    for (int32_t id : model_.tokenizer().end_ids()) end = std::max(end, logits[id]);
    return score.logprob + end - LogSumExp(logits);
  }

  absl::StatusOr<double> YesLogOdds(std::string_view answer) const {
    ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, Prompt("\nProposed answer: " + std::string(answer) + std::string(kIsItTheAnswer)));
    ASSIGN_OR_RETURN(const std::vector<float> logits, model_.NextLogits(prompt, judging_.cancel));
    const auto best = [&](std::initializer_list<std::string_view> words) {
      float peak = -std::numeric_limits<float>::infinity();
      for (std::string_view word : words) {
        const std::vector<int32_t> ids = model_.tokenizer().Encode(word);
        if (!ids.empty()) peak = std::max(peak, logits[ids.front()]);
      }
      return peak;
    };
    return best({"Yes", "yes"}) - best({"No", "no"});
  }

  // Of each token of the question, given a sentence and an answer; without either where `answer` is empty.
  absl::StatusOr<std::vector<float>> QuestionLogprobs(std::string_view sentence, std::string_view answer) const {
    std::vector<tokenizer::ChatMessage> messages;
    if (answer.empty()) {
      messages = {{"system", std::string(kQuestionAlone)}, {"user", "Passage: "}};
    } else {
      messages = {{"system", std::string(kQuestionGiven)},
                  {"user", "Passage: " + std::string(sentence) + "\nAnswer: " + std::string(answer)}};
    }
    ASSIGN_OR_RETURN(std::vector<int32_t> prompt, model_.EncodeChat(messages));
    for (int32_t id : model_.tokenizer().Encode("Question:")) prompt.push_back(id);
    const std::vector<int32_t> question = model_.tokenizer().Encode(" " + judging_.question.text);
    ASSIGN_OR_RETURN(decoder::ContinuationScore score, model_.Score(prompt, question, judging_.cancel));
    return std::move(score.token_logprobs);
  }

 private:
  LanguageModel& model_;
  const SpanJudging& judging_;
};

// The word of the question that each token of " " + question is part of.
std::vector<int32_t> WordOfToken(const tokenizer::Tokenizer& tokenizer, const Question& question) {
  std::vector<tokenizer::TokenOffset> offsets;
  tokenizer.EncodeWithOffsets(" " + std::string(question.text), {}, &offsets);
  std::vector<int32_t> out;
  for (const tokenizer::TokenOffset& at : offsets) {
    int32_t word = -1;
    for (size_t w = 0; w < question.words.size() && word < 0; ++w) {   // offsets count the blank in front
      if (at.begin - 1 < question.words[w].at.end && at.end - 1 > question.words[w].at.begin) word = static_cast<int32_t>(w);
    }
    out.push_back(word);
  }
  return out;
}

bool Better(const JudgedSpan& a, const JudgedSpan& b) { return a.score != b.score ? a.score > b.score : a.candidate < b.candidate; }

}  // namespace

absl::StatusOr<std::vector<JudgedSpan>> JudgeSpans(LanguageModel& model, const SpanJudging& judging,
                                                   std::span<const SpanCandidate> candidates, std::span<const PassageWords> passages) {
  const Judge judge(model, judging);
  std::vector<JudgedSpan> judged;
  for (size_t c = 0; c < candidates.size(); ++c) {
    JudgedSpan j{c, BestPlace(judging.question, passages, candidates[c])};
    j.features = FeaturesForRank(judging.question, candidates[c], j.place, {});
    j.score = RankScore(j.features, /*asked=*/false);
    judged.push_back(std::move(j));
  }
  std::sort(judged.begin(), judged.end(), Better);
  const std::span<JudgedSpan> asked = std::span(judged).first(std::min<size_t>(judged.size(), kJudgedCandidates));
  // First all that begins with the passages, which are still in the cache, then the short prompts without them.
  ASSIGN_OR_RETURN(const double not_found, judge.ReplyLogprob(judging.prompt, kRefusal));
  for (JudgedSpan& j : asked) j.scores.not_found = not_found;
  if (judging.all_features || AsksOutright()) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> may_refuse, judge.Prompt(kMayRefuse));
    ASSIGN_OR_RETURN(const double refused, judge.ReplyLogprob(may_refuse, kRefusal));
    for (JudgedSpan& j : asked) {
      ASSIGN_OR_RETURN(const double insisted, judge.ReplyLogprob(may_refuse, candidates[j.candidate].text));
      j.scores.refusal = refused - insisted;
    }
    for (JudgedSpan& j : asked) {
      ASSIGN_OR_RETURN(j.scores.yes, judge.YesLogOdds(candidates[j.candidate].text));
    }
  }
  for (JudgedSpan& j : asked) {
    const SpanCandidate& candidate = candidates[j.candidate];
    const PassageWords& passage = passages[candidate.occurrences[j.place.occurrence].passage];
    const ByteRange sentence = passage.sentences[j.place.sentence];
    ASSIGN_OR_RETURN(j.scores.given, judge.QuestionLogprobs(passage.text.substr(sentence.begin, sentence.end - sentence.begin), candidate.text));
    j.features = FeaturesForRank(judging.question, candidate, j.place, j.scores);
    j.score = RankScore(j.features, /*asked=*/true);
    if (judging.progress) judging.progress(&j - asked.data() + 1);
  }
  ASSIGN_OR_RETURN(const std::vector<float> alone, judge.QuestionLogprobs("", ""));
  const std::vector<int32_t> word = WordOfToken(model.tokenizer(), judging.question);
  for (JudgedSpan& j : asked) {
    j.scores.alone = alone;
    j.scores.word = word;
  }
  std::sort(asked.begin(), asked.end(), Better);
  return judged;
}

}  // namespace lectern::service::answer
