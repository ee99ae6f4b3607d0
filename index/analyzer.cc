#include "index/analyzer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

#include <algorithm>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/check.h"
#include "index/analyzer-inl.h"

namespace lectern::index {
namespace {

// Of libstemmer 2.2. "en" also drops accents; the others keep them, because their stemmers use them.
constexpr const char* kLanguages[] = {"ar", "ca", "da", "de", "el", "en", "es", "eu", "fi", "fr",
                                      "ga", "hi", "hu", "hy", "id", "it", "lt", "ne", "nl", "no",
                                      "pt", "ro", "ru", "sr", "sv", "ta", "tr", "yi"};
constexpr const char* kElidingLanguages[] = {"ca", "fr", "ga", "it"};

enum class Kind {
  kSeparator,
  kLetter,
  kDigit,
  kMark,        // joins the word before it
  kApostrophe,
  kCjk,         // becomes bigrams
  kDictionary,  // Thai and its like: ICU finds the words
};

Kind KindOf(UChar32 c) {
  if (c < 0) return Kind::kSeparator;
  if (c < 128) {
    switch (kByteTables.type[static_cast<size_t>(c)]) {
      case ByteClass::kLetter: return Kind::kLetter;
      case ByteClass::kDigit: return Kind::kDigit;
      case ByteClass::kApostrophe: return Kind::kApostrophe;
      default: return Kind::kSeparator;
    }
  }
  if (c == 0x2019 || c == 0xFF07) return Kind::kApostrophe;
  if (c == 0x200C || c == 0x200D || c == 0xAD) return Kind::kMark;  // joiners and the soft hyphen; folding drops them
  const int8_t type = u_charType(c);
  const uint32_t mask = U_MASK(type);
  if ((mask & (U_GC_L_MASK | U_GC_M_MASK | U_GC_N_MASK)) == 0) return Kind::kSeparator;
  if (u_getIntPropertyValue(c, UCHAR_LINE_BREAK) == U_LB_COMPLEX_CONTEXT) return Kind::kDictionary;
  if (mask & U_GC_M_MASK) return Kind::kMark;
  UErrorCode status = U_ZERO_ERROR;
  switch (uscript_getScript(c, &status)) {
    case USCRIPT_HAN:
    case USCRIPT_HIRAGANA:
    case USCRIPT_KATAKANA:
    case USCRIPT_HANGUL:
    case USCRIPT_BOPOMOFO:
      return Kind::kCjk;
    default:
      break;
  }
  if (c == 0x30FC || c == 0xFF70) return Kind::kCjk;  // the long-vowel mark, shared by both kana
  return (mask & U_GC_N_MASK) ? Kind::kDigit : Kind::kLetter;
}

struct BreakIteratorDeleter {
  void operator()(UBreakIterator* it) const { ubrk_close(it); }
};
using BreakIteratorPtr = std::unique_ptr<UBreakIterator, BreakIteratorDeleter>;

// A word's folded form may hold what is no word character (one half becomes 1, fraction slash, 2) or be too long:
// gives each piece of 1 to kMaxTermBytes bytes.
template <class Sink>
void EmitPieces(std::string_view folded, int64_t begin, int64_t end, const Sink& sink) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(folded.data());
  const int32_t size = static_cast<int32_t>(folded.size());
  int32_t piece = 0, at = 0;
  auto flush = [&](int32_t to) {
    if (to > piece) sink(folded.substr(static_cast<size_t>(piece), static_cast<size_t>(to - piece)), begin, end);
  };
  while (at < size) {
    const int32_t start = at;
    UChar32 c;
    U8_NEXT(bytes, at, size, c);
    const Kind kind = KindOf(c);
    if (kind == Kind::kSeparator || (kind == Kind::kApostrophe && (start == piece || at == size))) {
      flush(start);
      piece = at;
    } else if (at - piece > kMaxTermBytes) {
      flush(start);
      piece = start;
    }
  }
  flush(size);
}

}  // namespace

struct Analyzer::Impl::IcuState {
  const icu::Normalizer2* fold = nullptr;       // NFKC with case folding; default ignorables go
  const icu::Normalizer2* decompose = nullptr;  // NFD
  const icu::Normalizer2* compose = nullptr;    // NFC
  absl::Mutex mu;
  std::vector<BreakIteratorPtr> idle ABSL_GUARDED_BY(mu);

  IcuState() {
    UErrorCode status = U_ZERO_ERROR;
    fold = icu::Normalizer2::getNFKCCasefoldInstance(status);
    decompose = icu::Normalizer2::getNFDInstance(status);
    compose = icu::Normalizer2::getNFCInstance(status);
    CHECK(U_SUCCESS(status));
  }

  std::string Apply(const icu::Normalizer2* normalizer, std::string_view text) const {
    std::string out;
    icu::StringByteSink<std::string> sink(&out);
    UErrorCode status = U_ZERO_ERROR;
    normalizer->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr,
                              status);
    CHECK(U_SUCCESS(status));
    return out;
  }

  std::string Fold(std::string_view word, const Analyzer::Impl& impl) const {
    std::string prepared;
    if (impl.turkish_case) {
      for (size_t i = 0; i < word.size(); ++i) {
        if (word[i] == 'I') prepared += "\xC4\xB1";                                                // dotless i
        else if (word.substr(i, 2) == "\xC4\xB0") prepared += 'i', ++i;                            // I with a dot
        else prepared += word[i];
      }
      word = prepared;
    }
    std::string folded = Apply(fold, word);
    for (size_t at; (at = folded.find("\xE2\x80\x99")) != std::string::npos;) folded.replace(at, 3, 1, '\'');
    if (!impl.folds_accents) return folded;
    const std::string apart = Apply(decompose, folded);
    std::string kept;
    bool latin = false, dropped = false;
    const auto* bytes = reinterpret_cast<const uint8_t*>(apart.data());
    for (int32_t at = 0, size = static_cast<int32_t>(apart.size()); at < size;) {
      const int32_t start = at;
      UChar32 c;
      U8_NEXT(bytes, at, size, c);
      if (c >= 0 && u_charType(c) == U_NON_SPACING_MARK) {
        if (latin) {
          dropped = true;
          continue;
        }
      } else {
        UErrorCode status = U_ZERO_ERROR;
        latin = c >= 0 && uscript_getScript(c, &status) == USCRIPT_LATIN;
      }
      kept.append(apart, static_cast<size_t>(start), static_cast<size_t>(at - start));
    }
    return dropped ? Apply(compose, kept) : folded;
  }
};

Analyzer::Impl::Impl() : icu(std::make_unique<IcuState>()) {}
Analyzer::Impl::~Impl() = default;

namespace {

// One step over the text: a decoded code point, its kind and its bytes.
struct Reader {
  std::string_view text;
  int64_t at, begin = 0;
  UChar32 c = 0;
  Kind kind = Kind::kSeparator;

  bool Next() {
    if (at >= static_cast<int64_t>(text.size())) return false;
    begin = at;
    // U8_NEXT counts in 32 bits, so it is given a window of one code point.
    const auto* bytes = reinterpret_cast<const uint8_t*>(text.data()) + at;
    const int32_t size = static_cast<int32_t>(std::min<int64_t>(4, static_cast<int64_t>(text.size()) - at));
    int32_t step = 0;
    U8_NEXT(bytes, step, size, c);
    at += step;
    kind = KindOf(c);
    return true;
  }
};

}  // namespace

int64_t Analyzer::Impl::ScanThroughIcu(std::string_view text, int64_t begin, const WordSink& sink) const {
  Reader reader{text, begin};
  auto slice = [&](int64_t from, int64_t to) {
    return text.substr(static_cast<size_t>(from), static_cast<size_t>(to - from));
  };
  if (!reader.Next()) return begin + 1;
  int64_t end = reader.at;

  if (reader.kind == Kind::kCjk) {
    struct Cluster { std::string folded; int64_t begin, end; };
    Cluster previous, current{"", begin, end};
    bool has_previous = false, wrote = false;
    auto close = [&] {
      current.end = end;
      current.folded = icu->Fold(slice(current.begin, current.end), *this);
      if (has_previous) {
        EmitPieces(previous.folded + current.folded, previous.begin, current.end, sink);
        wrote = true;
      }
      previous = current;
      has_previous = true;
    };
    while (reader.Next()) {
      const bool voiced = reader.c == 0xFF9E || reader.c == 0xFF9F;  // half-width voicing marks join the kana before
      if (reader.kind == Kind::kCjk && !voiced) {
        close();
        current.begin = reader.begin;
      } else if (!voiced && reader.kind != Kind::kMark) {
        break;
      }
      end = reader.at;
    }
    close();
    if (!wrote) EmitPieces(current.folded, current.begin, current.end, sink);
    return end;
  }

  if (reader.kind == Kind::kDictionary) {
    while (reader.Next() && (reader.kind == Kind::kDictionary || reader.kind == Kind::kMark)) end = reader.at;
    BreakIteratorPtr breaks;
    {
      absl::MutexLock lock(&icu->mu);
      if (!icu->idle.empty()) {
        breaks = std::move(icu->idle.back());
        icu->idle.pop_back();
      }
    }
    UErrorCode status = U_ZERO_ERROR;
    if (breaks == nullptr) breaks.reset(ubrk_open(UBRK_WORD, "th", nullptr, 0, &status));
    UText utext = UTEXT_INITIALIZER;
    utext_openUTF8(&utext, text.data() + begin, end - begin, &status);
    CHECK(U_SUCCESS(status));
    ubrk_setUText(breaks.get(), &utext, &status);
    CHECK(U_SUCCESS(status));
    int32_t from = ubrk_first(breaks.get());
    for (int32_t to = ubrk_next(breaks.get()); to != UBRK_DONE; from = to, to = ubrk_next(breaks.get())) {
      EmitPieces(icu->Fold(slice(begin + from, begin + to), *this), begin + from, begin + to, sink);
    }
    utext_close(&utext);
    absl::MutexLock lock(&icu->mu);
    icu->idle.push_back(std::move(breaks));
    return end;
  }

  if (reader.kind != Kind::kLetter && reader.kind != Kind::kDigit) return end;  // no word begins here
  bool letter_before = reader.kind == Kind::kLetter;
  while (reader.Next()) {
    if (reader.kind == Kind::kApostrophe) {
      Reader after = reader;
      if (!joins_apostrophes || !letter_before || !after.Next() || after.kind != Kind::kLetter) break;
      letter_before = false;
    } else if (reader.kind == Kind::kLetter || reader.kind == Kind::kDigit) {
      letter_before = reader.kind == Kind::kLetter;
    } else if (reader.kind != Kind::kMark) {
      break;
    }
    end = reader.at;
  }
  EmitPieces(icu->Fold(slice(begin, end), *this), begin, end, sink);
  return end;
}

Analyzer::Analyzer() : impl_(std::make_unique<Impl>()) {}
Analyzer::~Analyzer() = default;

std::vector<std::string> Analyzer::KnownNames() {
  std::vector<std::string> names{"icu", "en-stop"};
  for (const char* language : kLanguages) names.emplace_back(language);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::shared_ptr<const Analyzer>> Analyzer::Named(std::string_view given) {
  const std::string name(given.substr(0, given.find('/')));
  const bool versioned = given.find('/') != std::string_view::npos;
  const std::vector<std::string> known = KnownNames();
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    std::string all;
    for (const std::string& one : known) all += (all.empty() ? "" : ", ") + one;
    return InvalidArgument("no analyzer is called '", given, "'; known: ", all,
                           " (icu finds words and does not stem: for languages that are not listed)");
  }
  std::shared_ptr<Analyzer> analyzer(new Analyzer());
  Impl& impl = *analyzer->impl_;
  impl.name = name + "/1";
  if (versioned && given != impl.name) {
    return InvalidArgument("analyzer '", given, "' is of another version; this build has ", impl.name);
  }
  impl.drops_stop_words = name == "en-stop";
  const std::string language = impl.drops_stop_words ? "en" : name;
  if (language != "icu") {
    if (!StemCache::Supports(language)) return NotSupported("this libstemmer has no stemmer for '", language, "'");
    impl.stems = std::make_unique<StemCache>(language);
  }
  impl.folds_accents = language == "en";
  impl.turkish_case = name == "tr";
  for (const char* eliding : kElidingLanguages) impl.joins_apostrophes &= name != eliding;
  return std::shared_ptr<const Analyzer>(std::move(analyzer));
}

std::string Analyzer::name() const { return impl_->name; }

void Analyzer::Analyze(std::string_view text, const Sink& sink) const {
  std::string scratch;
  ForEachWord(*impl_, text, [&](std::string_view folded, int64_t begin, int64_t end) {
    sink(impl_->TermOf(folded, scratch), begin, end);
  });
}

void Analyzer::AnalyzeThroughIcuForTest(std::string_view text, const Sink& sink) const {
  std::string scratch;
  for (int64_t at = 0; at < static_cast<int64_t>(text.size());) {
    at = impl_->ScanThroughIcu(text, at, [&](std::string_view folded, int64_t begin, int64_t end) {
      if (!impl_->drops_stop_words || !IsStopWord(folded)) sink(impl_->TermOf(folded, scratch), begin, end);
    });
  }
}

std::vector<std::string> Analyzer::Terms(std::string_view text) const {
  std::vector<std::string> terms;
  Analyze(text, [&](std::string_view term, int64_t, int64_t) { terms.emplace_back(term); });
  return terms;
}

}  // namespace lectern::index
