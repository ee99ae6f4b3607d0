// service/eval/text_noise.h: clean text to text as scanners, typists and speech recognisers leave it.
//
//   std::string noisy = AddTextNoise(TextNoise::kOcr, /*level=*/0.05, /*seed=*/7, text);
//
// Shapes:  UTF-8 in, UTF-8 out; bytes above 127 are kept. The same (family, level, seed, text) gives the same bytes.
// Threads: pure functions.
// Errors:  ParseTextNoise names an unknown family and lists the known ones. A text never becomes empty.
// Cost:    one pass. The tables are this project's own.
//
// level   kOcr: share of characters with a confusion that get it; kTypo, kAsr: share of words; kDrop: share of sentences
//         left out; kShift: share of the words cut off, half at the start on average.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace lectern::eval {

enum class TextNoise { kOcr, kTypo, kDrop, kAsr, kShift };
const char* TextNoiseName(TextNoise family);
absl::StatusOr<TextNoise> ParseTextNoise(std::string_view name);

std::string AddTextNoise(TextNoise family, double level, uint64_t seed, std::string_view text);

// One sentence of the text, as somebody would ask for what it says; of a text without sentences, sixteen of its words. Empty
// where that would be most of the text.
std::string PickSentence(uint64_t seed, std::string_view text);

}  // namespace lectern::eval
