// index/stem_cache.h: Snowball stems, remembered.
//
//   StemCache stems("en");
//   std::string_view term = stems.Stem("running", scratch);   // "run"
//
// Shapes:  folded UTF-8 words in and out.
// Threads: any; reads take no lock, a word seen for the first time takes one.
// Errors:  Supports() says whether libstemmer knows the language; REQUIRES: it does.
// Cost:    one hash and one comparison for a known word; about 0.5 us for a new one. Remembers 32,768 words (about
//          2 MiB when full) and computes the rest each time, so that no text can make it grow.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace lectern::index {

class StemCache {
 public:
  explicit StemCache(const std::string& language);
  ~StemCache();
  static bool Supports(const std::string& language);

  // The stem; lives as long as the cache, or as `scratch` keeps its value.
  std::string_view Stem(std::string_view word, std::string& scratch) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::index
