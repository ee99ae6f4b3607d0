#include "service/eval/questions.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <set>

#include "absl/strings/numbers.h"
#include "base/json.h"
#include "service/eval/trec_io.h"

namespace lectern::eval {
namespace {

// CPython's random.Random(seed) for a non-negative 32-bit seed: init_by_array({seed}), then getrandbits.
class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed) {
    uint32_t* mt = state_;
    mt[0] = 19650218u;
    for (int i = 1; i < 624; ++i) mt[i] = 1812433253u * (mt[i - 1] ^ mt[i - 1] >> 30) + static_cast<uint32_t>(i);
    int i = 1;
    for (int k = 624; k > 0; --k) {
      mt[i] = (mt[i] ^ (mt[i - 1] ^ mt[i - 1] >> 30) * 1664525u) + seed;
      if (++i >= 624) {
        mt[0] = mt[623];
        i = 1;
      }
    }
    for (int k = 623; k > 0; --k) {
      mt[i] = (mt[i] ^ (mt[i - 1] ^ mt[i - 1] >> 30) * 1566083941u) - static_cast<uint32_t>(i);
      if (++i >= 624) {
        mt[0] = mt[623];
        i = 1;
      }
    }
    mt[0] = 0x80000000u;
  }
  int64_t Below(int64_t n) {
    int bits = 0;
    while ((int64_t{1} << bits) <= n) ++bits;
    int64_t r = Next() >> (32 - bits);
    while (r >= n) r = Next() >> (32 - bits);
    return r;
  }

 private:
  uint32_t Next() {
    if (at_ >= 624) {
      for (int k = 0; k < 624; ++k) {
        const uint32_t y = (state_[k] & 0x80000000u) | (state_[(k + 1) % 624] & 0x7fffffffu);
        state_[k] = state_[(k + 397) % 624] ^ y >> 1 ^ ((y & 1) != 0 ? 0x9908b0dfu : 0);
      }
      at_ = 0;
    }
    uint32_t y = state_[at_++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
  }
  uint32_t state_[624];
  int at_ = 624;
};

int HalfOf(const std::string& key) {
  return static_cast<int>(crc32(0, reinterpret_cast<const Bytef*>(key.data()), static_cast<uInt>(key.size())) % 2);
}

absl::StatusOr<std::vector<EvalQuestion>> ParseSquad(const Json& root) {
  if (!root["data"].is_array()) return InvalidArgument("SQuAD JSON needs an array 'data'");
  std::vector<EvalQuestion> out;
  for (const Json& article : root["data"]) {
    ASSIGN_OR_RETURN(const std::string title, JsonString(article, "title"));
    if (!article.contains("paragraphs") || !article["paragraphs"].is_array()) {
      return InvalidArgument("SQuAD article '", title, "' has no array 'paragraphs'");
    }
    for (const Json& paragraph : article["paragraphs"]) {
      ASSIGN_OR_RETURN(const std::string context, JsonString(paragraph, "context"));
      if (!paragraph.contains("qas") || !paragraph["qas"].is_array()) {
        return InvalidArgument("a SQuAD paragraph of '", title, "' has no array 'qas'");
      }
      for (const Json& qa : paragraph["qas"]) {
        EvalQuestion question;
        ASSIGN_OR_RETURN(question.id, JsonString(qa, "id"));
        ASSIGN_OR_RETURN(question.question, JsonString(qa, "question"));
        question.title = title;
        question.context = context;
        question.judged = true;
        if (qa.contains("is_impossible")) {
          ASSIGN_OR_RETURN(question.unanswerable, JsonBool(qa, "is_impossible"));
        }
        if (qa.contains("answers") && qa["answers"].is_array()) {
          for (const Json& answer : qa["answers"]) {
            ASSIGN_OR_RETURN(std::string gold, JsonString(answer, "text"));
            question.answers.push_back(std::move(gold));
          }
        }
        if (question.answers.empty() && !question.unanswerable) {
          return InvalidArgument("SQuAD question ", question.id, " has no answer and is not marked is_impossible");
        }
        out.push_back(std::move(question));
      }
    }
  }
  return out;
}

// The string under the first of these keys; empty where none is there or it is null.
absl::StatusOr<std::string> FirstString(const Json& object, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (object.contains(key) && !object[key].is_null()) return JsonString(object, key);
  }
  return std::string();
}

absl::StatusOr<EvalQuestion> ParseLine(const Json& row, int64_t number) {
  if (!row.is_object()) return InvalidArgument("a question is a JSON object");
  EvalQuestion question;
  ASSIGN_OR_RETURN(question.id, FirstString(row, {"id", "_id"}));
  if (question.id.empty()) question.id = std::to_string(number);
  ASSIGN_OR_RETURN(question.question, FirstString(row, {"question", "text"}));
  if (question.question.empty()) return InvalidArgument("no text under 'question' or 'text'");
  ASSIGN_OR_RETURN(question.title, FirstString(row, {"title"}));
  ASSIGN_OR_RETURN(question.context, FirstString(row, {"context"}));
  ASSIGN_OR_RETURN(question.doc_id, FirstString(row, {"doc_id"}));
  for (const char* key : {"answers", "answer"}) {
    if (!row.contains(key)) continue;
    const Json& answers = row[key];
    question.judged = true;
    if (answers.is_string()) question.answers.push_back(answers.get<std::string>());
    else if (!answers.is_array()) return InvalidArgument("'", key, "' must be a string or a list of strings");
    else {
      for (const Json& answer : answers) {
        if (!answer.is_string()) return InvalidArgument("'", key, "' must be a string or a list of strings");
        question.answers.push_back(answer.get<std::string>());
      }
    }
    break;
  }
  question.unanswerable = question.judged && question.answers.empty();
  return question;
}

}  // namespace

absl::StatusOr<std::vector<EvalQuestion>> ReadQuestions(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadUnpacked(path));
  return ParseQuestions(text, path);
}

absl::StatusOr<std::vector<EvalQuestion>> ParseQuestions(std::string_view text, const std::string& name) {
  std::vector<EvalQuestion> out;
  // SQuAD is one object that holds "data"; in JSON lines each line is an object of its own.
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return InvalidArgument(name, " holds no question");
  const absl::StatusOr<Json> first = ParseJson(text.substr(begin, std::min(text.find('\n', begin), text.size()) - begin));
  const bool lines = first.ok() && first->is_object() && !first->contains("data");
  if (lines) {
    int64_t number = 0;
    for (std::string_view left = text; !left.empty();) {
      const size_t end = std::min(left.find('\n'), left.size());
      const std::string_view line = left.substr(0, end);
      left.remove_prefix(std::min(end + 1, left.size()));
      ++number;
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      const absl::StatusOr<Json> row = ParseJson(line);
      if (!row.ok()) return Annotate(row.status(), internal::Concat(name, ":", number));
      absl::StatusOr<EvalQuestion> question = ParseLine(*row, number);
      if (!question.ok()) return Annotate(question.status(), internal::Concat(name, ":", number));
      out.push_back(*std::move(question));
    }
  } else {
    const absl::StatusOr<Json> root = ParseJson(text);
    if (!root.ok()) return Annotate(root.status(), name);
    if (!root->is_object() || !root->contains("data")) {
      return InvalidArgument(name, ": neither SQuAD JSON (an object with 'data') nor JSON lines of questions");
    }
    absl::StatusOr<std::vector<EvalQuestion>> squad = ParseSquad(*root);
    if (!squad.ok()) return Annotate(squad.status(), name);
    out = *std::move(squad);
  }
  std::set<std::string_view> ids;
  for (EvalQuestion& question : out) {
    if (!ids.insert(question.id).second) return InvalidArgument(name, ": the id ", question.id, " comes twice");
    question.half = HalfOf(!question.title.empty() ? question.title : !question.doc_id.empty() ? question.doc_id : question.id);
  }
  return out;
}

absl::StatusOr<std::vector<EvalQuestion>> ShardOf(const std::vector<EvalQuestion>& questions, const std::string& shard) {
  const size_t slash = shard.find('/');
  int64_t i = -1, n = 0;
  if (slash == std::string::npos || !absl::SimpleAtoi(shard.substr(0, slash), &i) || !absl::SimpleAtoi(shard.substr(slash + 1), &n) || i < 0 || i >= n) {
    return InvalidArgument("--shard must be I/N with 0 <= I < N, got '", shard, "'");
  }
  std::vector<EvalQuestion> out;
  for (auto at = static_cast<size_t>(i); at < questions.size(); at += static_cast<size_t>(n)) out.push_back(questions[at]);
  return out;
}

std::vector<EvalQuestion> SampleQuestions(std::vector<EvalQuestion> questions, int64_t n, uint32_t seed) {
  std::stable_sort(questions.begin(), questions.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  const auto size = static_cast<int64_t>(questions.size());
  n = std::min(n, size);
  PythonRandom random(seed);
  std::vector<EvalQuestion> out;
  // The two ways of random.sample, by the same rule.
  int64_t set_size = 21;
  if (n > 5) set_size += int64_t{1} << (2 * static_cast<int>(std::ceil(std::log(n * 3) / std::log(4))));
  if (size <= set_size) {
    std::vector<int64_t> pool(size);
    for (int64_t i = 0; i < size; ++i) pool[i] = i;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t j = random.Below(size - i);
      out.push_back(questions[pool[j]]);
      pool[j] = pool[size - i - 1];
    }
  } else {
    std::set<int64_t> taken;
    for (int64_t i = 0; i < n; ++i) {
      int64_t j = random.Below(size);
      while (!taken.insert(j).second) j = random.Below(size);
      out.push_back(questions[j]);
    }
  }
  return out;
}

}  // namespace lectern::eval
