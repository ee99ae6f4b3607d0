#include "service/eval/squad.h"

#include <zlib.h>

#include <algorithm>
#include <random>
#include <set>
#include <cmath>

#include "base/json.h"

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

}  // namespace

absl::StatusOr<std::vector<SquadQuestion>> ParseSquad(std::string_view text) {
  ASSIGN_OR_RETURN(const Json root, ParseJson(text));
  if (!root.is_object() || !root.contains("data") || !root["data"].is_array()) {
    return InvalidArgument("SQuAD JSON needs an object with an array 'data'");
  }
  std::vector<SquadQuestion> out;
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
        SquadQuestion question;
        ASSIGN_OR_RETURN(question.id, JsonString(qa, "id"));
        ASSIGN_OR_RETURN(question.question, JsonString(qa, "question"));
        question.title = title;
        question.context = context;
        question.half = static_cast<int>(crc32(0, reinterpret_cast<const Bytef*>(title.data()), static_cast<uInt>(title.size())) % 2);
        if (qa.contains("is_impossible")) {
          ASSIGN_OR_RETURN(question.impossible, JsonBool(qa, "is_impossible"));
        }
        if (qa.contains("answers") && qa["answers"].is_array()) {
          for (const Json& answer : qa["answers"]) {
            ASSIGN_OR_RETURN(std::string gold, JsonString(answer, "text"));
            question.answers.push_back(std::move(gold));
          }
        }
        out.push_back(std::move(question));
      }
    }
  }
  return out;
}

std::vector<SquadQuestion> SampleQuestions(std::vector<SquadQuestion> questions, int64_t n, uint32_t seed) {
  std::stable_sort(questions.begin(), questions.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  const auto size = static_cast<int64_t>(questions.size());
  n = std::min(n, size);
  PythonRandom random(seed);
  std::vector<SquadQuestion> out;
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
