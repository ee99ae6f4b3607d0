// File: header, compressed texts, sections, section table, footer. All integers little-endian, sections at multiples of 8.
//   header   "LECTDOC1"
//   texts    one zstd frame a document, end to end
//   sections plain arrays, in the order of enum Section; then, for each field, its four arrays
//   footer   Footer, the last bytes of the file; the table lies right before it
#include "index/segment_documents.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <numeric>

#include "base/check.h"

namespace lectern::index {
namespace {

static_assert(std::endian::native == std::endian::little, "the file's arrays are mapped as they lie");

constexpr std::string_view kHeader = "LECTDOC1";
constexpr uint64_t kFooterMagic = 0x31524f4f46434f44u;    // "DOCFOOR1"
constexpr uint64_t kMaxTextBytes = uint64_t{1} << 31;     // far above max_record_bytes; bounds what Text() allocates
constexpr int kZstdLevel = 1;                             // the store keeps the well-packed copy; this one is read often

enum Section : int {
  kTextOffsets,      // u64[n + 1], bytes of the file
  kTextSizes,        // u64[n], unpacked
  kIdOffsets, kIdBytes, kTitleOffsets, kTitleBytes, kUriOffsets, kUriBytes, kShaOffsets, kShaBytes,   // u64[n + 1], bytes
  kSeqs,             // u64[n]
  kById,             // u32[n]: document ordinals in order of their ids
  kFirstChunks,      // u64[n + 1]
  kChunkDocuments,   // u32[m]
  kChunkBegins, kChunkEnds,                // u64[m]
  kFieldNameOffsets, kFieldNameBytes,      // u64[f + 1], sorted
  kDictionaryOffsets, kDictionaryBytes,    // u64[d + 1]: string values of all fields, each once
  kNumFixedSections,
};
enum FieldSection : int {
  kFieldDocuments,   // u32[k]: documents that have the field, ascending
  kFieldFirsts,      // u64[k + 1]: where each one's values begin
  kFieldTypes,       // u8[v]: index in FieldValue
  kFieldValues,      // u64[v]: the number's bits, or the string's place in the dictionary
  kNumFieldSections,
};

struct SectionEntry {
  uint64_t offset = 0, bytes = 0;
};
struct Footer {
  uint64_t num_documents = 0, num_chunks = 0, num_fields = 0, dictionary_size = 0, texts_end = 0, num_sections = 0;
  uint64_t magic = kFooterMagic;
};

struct StringColumn {
  std::vector<uint64_t> offsets{0};
  std::string bytes;
  void Add(std::string_view value) {
    bytes.append(value);
    offsets.push_back(bytes.size());
  }
  int64_t memory() const { return static_cast<int64_t>(offsets.size() * 8 + bytes.size()); }
};

struct FieldColumn {
  std::vector<uint32_t> documents;
  std::vector<uint64_t> firsts{0};
  std::vector<uint8_t> types;
  std::vector<uint64_t> values;
  int64_t memory() const { return static_cast<int64_t>(documents.size() * 12 + types.size() * 9); }
};

template <class T>
std::string_view AsBytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

struct SegmentDocumentsWriter::Impl {
  explicit Impl(SegmentFile& out) : file(out), context(ZSTD_createCCtx()) {}
  ~Impl() { ZSTD_freeCCtx(context); }

  SegmentFile& file;
  ZSTD_CCtx* context;
  std::string packed;
  bool finished = false;
  std::vector<uint64_t> text_offsets, text_sizes, seqs, first_chunks{0}, chunk_begins, chunk_ends;
  std::vector<uint32_t> chunk_documents;
  StringColumn ids, titles, uris, shas, dictionary;
  std::map<std::string, uint64_t, std::less<>> dictionary_of;
  int64_t dictionary_memory = 0;
  std::map<std::string, FieldColumn, std::less<>> fields;

  uint64_t Intern(const std::string& value) {
    const auto [it, added] = dictionary_of.try_emplace(value, dictionary.offsets.size() - 1);
    if (added) {
      dictionary.Add(value);
      dictionary_memory += static_cast<int64_t>(value.size()) + 80;
    }
    return it->second;
  }
};

SegmentDocumentsWriter::SegmentDocumentsWriter(SegmentFile& file) : impl_(std::make_unique<Impl>(file)) {}
SegmentDocumentsWriter::~SegmentDocumentsWriter() = default;

absl::Status SegmentDocumentsWriter::Add(const StoredDocument& stored, std::span<const Span> chunks) {
  Impl& w = *impl_;
  CHECK(!w.finished);
  const Document& document = stored.document;
  if (document.text.size() > kMaxTextBytes) {
    return ResourceExhausted("document '", document.id, "' has ", document.text.size(), " bytes of text, the limit is ", kMaxTextBytes);
  }
  if (w.text_offsets.empty()) {
    RETURN_IF_ERROR(w.file.Append(kHeader));
    w.text_offsets.push_back(kHeader.size());
  }
  if (w.seqs.size() >= INT32_MAX) return ResourceExhausted("a segment holds at most ", INT32_MAX, " documents");
  const auto ordinal = static_cast<uint32_t>(w.seqs.size());
  Span before{-1, -1};
  for (const Span& span : chunks) {
    if (span.begin < 0 || span.end < span.begin || span.end > static_cast<int64_t>(document.text.size()) || span.begin < before.begin) {
      return Internal("chunk [", span.begin, ", ", span.end, ") of '", document.id, "' does not fit its text of ", document.text.size(), " bytes");
    }
    before = span;
    w.chunk_documents.push_back(ordinal);
    w.chunk_begins.push_back(static_cast<uint64_t>(span.begin));
    w.chunk_ends.push_back(static_cast<uint64_t>(span.end));
  }
  w.first_chunks.push_back(w.chunk_begins.size());

  w.packed.resize(ZSTD_compressBound(document.text.size()));
  const size_t packed = ZSTD_compressCCtx(w.context, w.packed.data(), w.packed.size(), document.text.data(), document.text.size(), kZstdLevel);
  if (ZSTD_isError(packed)) return Internal("zstd: ", ZSTD_getErrorName(packed));
  RETURN_IF_ERROR(w.file.Append({w.packed.data(), packed}));
  w.text_offsets.push_back(w.text_offsets.back() + packed);
  w.text_sizes.push_back(document.text.size());

  w.ids.Add(document.id);
  w.titles.Add(document.title);
  w.uris.Add(document.uri);
  w.shas.Add(document.source_sha256);
  w.seqs.push_back(stored.seq);
  for (const auto& [name, values] : document.fields) {
    if (values.empty()) continue;
    FieldColumn& column = w.fields[name];
    column.documents.push_back(ordinal);
    for (const FieldValue& value : values) {
      column.types.push_back(static_cast<uint8_t>(value.index()));
      if (const auto* text = std::get_if<std::string>(&value)) column.values.push_back(w.Intern(*text));
      else if (const auto* integer = std::get_if<int64_t>(&value)) column.values.push_back(static_cast<uint64_t>(*integer));
      else if (const auto* real = std::get_if<double>(&value)) column.values.push_back(std::bit_cast<uint64_t>(*real));
      else column.values.push_back(std::get<bool>(value) ? 1 : 0);
    }
    column.firsts.push_back(column.values.size());
  }
  return absl::OkStatus();
}

int64_t SegmentDocumentsWriter::buffered_bytes() const {
  const Impl& w = *impl_;
  int64_t bytes = w.ids.memory() + w.titles.memory() + w.uris.memory() + w.shas.memory() + w.dictionary.memory() + w.dictionary_memory;
  bytes += static_cast<int64_t>(w.seqs.size() * 36 + w.chunk_begins.size() * 20 + w.packed.capacity());
  for (const auto& [name, column] : w.fields) bytes += column.memory();
  return bytes;
}

absl::Status SegmentDocumentsWriter::Finish() {
  Impl& w = *impl_;
  CHECK(!w.finished);
  w.finished = true;
  if (w.text_offsets.empty()) {
    RETURN_IF_ERROR(w.file.Append(kHeader));
    w.text_offsets.push_back(kHeader.size());
  }
  std::vector<uint32_t> by_id(w.seqs.size());
  std::iota(by_id.begin(), by_id.end(), 0);
  const auto id_of = [&](uint32_t i) {
    return std::string_view(w.ids.bytes).substr(w.ids.offsets[i], w.ids.offsets[i + 1] - w.ids.offsets[i]);
  };
  std::sort(by_id.begin(), by_id.end(), [&](uint32_t a, uint32_t b) { return id_of(a) < id_of(b); });
  for (size_t i = 1; i < by_id.size(); ++i) {
    if (id_of(by_id[i - 1]) == id_of(by_id[i])) return Internal("document '", id_of(by_id[i]), "' was added twice to one segment");
  }
  StringColumn names;
  for (const auto& [name, column] : w.fields) names.Add(name);

  std::vector<SectionEntry> table;
  const auto write = [&](std::string_view bytes) -> absl::Status {
    static constexpr char kZeros[8] = {};
    if (const size_t over = static_cast<size_t>(w.file.length()) % 8; over != 0) RETURN_IF_ERROR(w.file.Append({kZeros, 8 - over}));
    table.push_back({static_cast<uint64_t>(w.file.length()), bytes.size()});
    return w.file.Append(bytes);
  };
  const std::array<std::string_view, kNumFixedSections> fixed = {
      AsBytes(w.text_offsets), AsBytes(w.text_sizes), AsBytes(w.ids.offsets), w.ids.bytes, AsBytes(w.titles.offsets),
      w.titles.bytes, AsBytes(w.uris.offsets), w.uris.bytes, AsBytes(w.shas.offsets), w.shas.bytes, AsBytes(w.seqs),
      AsBytes(by_id), AsBytes(w.first_chunks), AsBytes(w.chunk_documents), AsBytes(w.chunk_begins), AsBytes(w.chunk_ends),
      AsBytes(names.offsets), names.bytes, AsBytes(w.dictionary.offsets), w.dictionary.bytes};
  for (const std::string_view bytes : fixed) RETURN_IF_ERROR(write(bytes));
  for (const auto& [name, column] : w.fields) {
    RETURN_IF_ERROR(write(AsBytes(column.documents)));
    RETURN_IF_ERROR(write(AsBytes(column.firsts)));
    RETURN_IF_ERROR(write(AsBytes(column.types)));
    RETURN_IF_ERROR(write(AsBytes(column.values)));
  }
  Footer footer;
  footer.num_documents = w.seqs.size();
  footer.num_chunks = w.chunk_begins.size();
  footer.num_fields = w.fields.size();
  footer.dictionary_size = w.dictionary.offsets.size() - 1;
  footer.texts_end = w.text_offsets.back();
  footer.num_sections = table.size();
  RETURN_IF_ERROR(write({}));   // pads; the table begins here
  table.pop_back();
  RETURN_IF_ERROR(w.file.Append(AsBytes(table)));
  return w.file.Append({reinterpret_cast<const char*>(&footer), sizeof(footer)});
}

// ---------------------------------------------------------------------------------------------------------------------

namespace {

struct Strings {
  std::span<const uint64_t> offsets;
  std::string_view bytes;
  std::string_view At(size_t i) const { return bytes.substr(offsets[i], offsets[i + 1] - offsets[i]); }
};

struct Field {
  std::string_view name;
  std::span<const uint32_t> documents;
  std::span<const uint64_t> firsts, values;
  std::span<const uint8_t> types;
};

bool Ascends(std::span<const uint64_t> offsets, uint64_t first, uint64_t last) {
  return !offsets.empty() && offsets.front() == first && offsets.back() == last && std::is_sorted(offsets.begin(), offsets.end());
}

// Hands out the file's sections in order, each checked against the file and the length it must have.
class SectionReader {
 public:
  SectionReader(std::string_view file, std::span<const SectionEntry> table, uint64_t begin, uint64_t end)
      : file_(file), table_(table), begin_(begin), end_(end) {}

  template <class T>
  absl::StatusOr<std::span<const T>> Array(uint64_t count) {
    ASSIGN_OR_RETURN(const std::string_view bytes, Bytes());
    // No product of the two can overflow: count comes first through a division.
    if (bytes.size() % sizeof(T) != 0 || bytes.size() / sizeof(T) != count) {
      return DataLoss("section ", next_ - 1, " has ", bytes.size(), " bytes, wanted ", count, " x ", sizeof(T));
    }
    return std::span<const T>(reinterpret_cast<const T*>(bytes.data()), count);
  }
  absl::StatusOr<std::string_view> Bytes() {
    if (next_ >= table_.size()) return DataLoss("section ", next_, " is missing");
    const SectionEntry& entry = table_[next_++];
    if (entry.offset % 8 != 0 || entry.offset < begin_ || entry.offset > end_ || entry.bytes > end_ - entry.offset) {
      return DataLoss("section ", next_ - 1, " at ", entry.offset, " of ", entry.bytes, " bytes lies outside ", begin_, "..", end_);
    }
    return file_.substr(entry.offset, entry.bytes);
  }
  absl::StatusOr<Strings> StringsOf(uint64_t count) {
    Strings strings;
    ASSIGN_OR_RETURN(strings.offsets, Array<uint64_t>(count + 1));
    ASSIGN_OR_RETURN(strings.bytes, Bytes());
    if (!Ascends(strings.offsets, 0, strings.bytes.size())) return DataLoss("section ", next_ - 2, " has offsets that do not ascend to ", strings.bytes.size());
    return strings;
  }

 private:
  std::string_view file_;
  std::span<const SectionEntry> table_;
  uint64_t begin_, end_;
  size_t next_ = 0;
};

}  // namespace

struct SegmentDocuments::Impl {
  MappedFile map;
  std::string path;
  std::string_view file;
  uint64_t num_documents = 0, num_chunks = 0;
  std::span<const uint64_t> text_offsets, text_sizes, seqs, first_chunks, chunk_begins, chunk_ends;
  std::span<const uint32_t> by_id, chunk_documents;
  Strings ids, titles, uris, shas, dictionary;
  std::vector<Field> fields;

  absl::Status Load();
  absl::Status CheckDocuments() const;
  absl::Status CheckField(const Field& field) const;
  const Field* FindField(std::string_view name) const {
    const auto it = std::lower_bound(fields.begin(), fields.end(), name, [](const Field& f, std::string_view n) { return f.name < n; });
    return it != fields.end() && it->name == name ? &*it : nullptr;
  }
};

absl::Status SegmentDocuments::Impl::Load() {
  file = map.text();
  Footer footer;
  if (file.size() < kHeader.size() + sizeof(Footer) || !file.starts_with(kHeader)) {
    return DataLoss("not a documents file: ", file.size(), " bytes, must begin with ", kHeader);
  }
  std::memcpy(&footer, file.data() + file.size() - sizeof(Footer), sizeof(Footer));
  if (footer.magic != kFooterMagic) return DataLoss("the documents file's footer is damaged");
  const uint64_t body = file.size() - sizeof(Footer);
  // Each count is bounded by what the file can hold before anything is multiplied by it.
  if (footer.num_documents > body / 8 || footer.num_documents > INT32_MAX || footer.num_chunks > body / 4 ||
      footer.num_fields > body / 8 || footer.dictionary_size > body / 8 ||
      footer.num_sections != kNumFixedSections + footer.num_fields * kNumFieldSections ||
      footer.num_sections > body / sizeof(SectionEntry)) {
    return DataLoss("counts of ", footer.num_documents, " documents, ", footer.num_chunks, " chunks, ", footer.num_fields,
                    " fields do not fit a file of ", file.size(), " bytes");
  }
  num_documents = footer.num_documents;
  num_chunks = footer.num_chunks;
  const uint64_t table_at = body - footer.num_sections * sizeof(SectionEntry);
  if (table_at % 8 != 0 || footer.texts_end < kHeader.size() || footer.texts_end > table_at) {
    return DataLoss("texts end at ", footer.texts_end, ", the section table begins at ", table_at);
  }
  const std::span<const SectionEntry> table(reinterpret_cast<const SectionEntry*>(file.data() + table_at), footer.num_sections);
  SectionReader sections(file, table, footer.texts_end, table_at);
  ASSIGN_OR_RETURN(text_offsets, sections.Array<uint64_t>(num_documents + 1));
  if (!Ascends(text_offsets, kHeader.size(), footer.texts_end)) return DataLoss("offsets of texts do not ascend to ", footer.texts_end);
  ASSIGN_OR_RETURN(text_sizes, sections.Array<uint64_t>(num_documents));
  ASSIGN_OR_RETURN(ids, sections.StringsOf(num_documents));
  ASSIGN_OR_RETURN(titles, sections.StringsOf(num_documents));
  ASSIGN_OR_RETURN(uris, sections.StringsOf(num_documents));
  ASSIGN_OR_RETURN(shas, sections.StringsOf(num_documents));
  ASSIGN_OR_RETURN(seqs, sections.Array<uint64_t>(num_documents));
  ASSIGN_OR_RETURN(by_id, sections.Array<uint32_t>(num_documents));
  ASSIGN_OR_RETURN(first_chunks, sections.Array<uint64_t>(num_documents + 1));
  ASSIGN_OR_RETURN(chunk_documents, sections.Array<uint32_t>(num_chunks));
  ASSIGN_OR_RETURN(chunk_begins, sections.Array<uint64_t>(num_chunks));
  ASSIGN_OR_RETURN(chunk_ends, sections.Array<uint64_t>(num_chunks));
  ASSIGN_OR_RETURN(const Strings names, sections.StringsOf(footer.num_fields));
  ASSIGN_OR_RETURN(dictionary, sections.StringsOf(footer.dictionary_size));
  for (uint64_t f = 0; f < footer.num_fields; ++f) {
    Field field;
    field.name = names.At(f);
    if (f > 0 && names.At(f - 1) >= field.name) return DataLoss("field names are not in order at '", field.name, "'");
    ASSIGN_OR_RETURN(const std::string_view documents, sections.Bytes());
    if (documents.size() % 4 != 0) return DataLoss("field '", field.name, "' has a damaged list of documents");
    field.documents = {reinterpret_cast<const uint32_t*>(documents.data()), documents.size() / 4};
    ASSIGN_OR_RETURN(field.firsts, sections.Array<uint64_t>(field.documents.size() + 1));
    ASSIGN_OR_RETURN(const std::string_view types, sections.Bytes());
    field.types = {reinterpret_cast<const uint8_t*>(types.data()), types.size()};
    ASSIGN_OR_RETURN(field.values, sections.Array<uint64_t>(types.size()));
    RETURN_IF_ERROR(CheckField(field));
    fields.push_back(field);
  }
  return CheckDocuments();
}

absl::Status SegmentDocuments::Impl::CheckDocuments() const {
  if (!Ascends(first_chunks, 0, num_chunks)) return DataLoss("chunks do not ascend with their documents");
  for (uint64_t d = 0; d < num_documents; ++d) {
    if (text_sizes[d] > kMaxTextBytes) return DataLoss("document ", d, " claims ", text_sizes[d], " bytes of text");
    if (by_id[d] >= num_documents) return DataLoss("the id order names document ", by_id[d], " of ", num_documents);
    if (d > 0 && ids.At(by_id[d - 1]) >= ids.At(by_id[d])) return DataLoss("the id order is not ascending at ", d);
    for (uint64_t c = first_chunks[d]; c < first_chunks[d + 1]; ++c) {
      if (chunk_documents[c] != d || chunk_begins[c] > chunk_ends[c] || chunk_ends[c] > text_sizes[d] ||
          (c > first_chunks[d] && chunk_begins[c] < chunk_begins[c - 1])) {
        return DataLoss("chunk ", c, " [", chunk_begins[c], ", ", chunk_ends[c], ") does not fit document ", d, " of ", text_sizes[d], " bytes");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SegmentDocuments::Impl::CheckField(const Field& field) const {
  if (!Ascends(field.firsts, 0, field.values.size())) return DataLoss("values of field '", field.name, "' do not ascend");
  for (size_t i = 0; i < field.documents.size(); ++i) {
    if (field.documents[i] >= num_documents || (i > 0 && field.documents[i] <= field.documents[i - 1])) {
      return DataLoss("field '", field.name, "' names document ", field.documents[i], " out of order or of ", num_documents);
    }
  }
  const uint64_t dictionary_size = dictionary.offsets.size() - 1;
  for (size_t i = 0; i < field.types.size(); ++i) {
    if (field.types[i] >= std::variant_size_v<FieldValue> || (field.types[i] == 0 && field.values[i] >= dictionary_size)) {
      return DataLoss("value ", i, " of field '", field.name, "' is damaged");
    }
  }
  return absl::OkStatus();
}

SegmentDocuments::SegmentDocuments() : impl_(std::make_unique<Impl>()) {}
SegmentDocuments::~SegmentDocuments() = default;

absl::StatusOr<std::shared_ptr<const SegmentDocuments>> SegmentDocuments::Open(SegmentFiles& files) {
  ASSIGN_OR_RETURN(MappedFile map, files.Take("documents.bin"));
  return FromMapping(std::move(map), files.PathOf("documents.bin"));
}

absl::StatusOr<std::shared_ptr<const SegmentDocuments>> SegmentDocuments::FromMapping(MappedFile map, std::string name) {
  std::shared_ptr<SegmentDocuments> documents(new SegmentDocuments());
  documents->impl_->map = std::move(map);
  documents->impl_->path = std::move(name);
  if (const absl::Status status = documents->impl_->Load(); !status.ok()) return Annotate(status, documents->impl_->path);
  return documents;
}

int64_t SegmentDocuments::num_documents() const { return static_cast<int64_t>(impl_->num_documents); }
int64_t SegmentDocuments::num_chunks() const { return static_cast<int64_t>(impl_->num_chunks); }
std::string_view SegmentDocuments::Id(int32_t document) const { return impl_->ids.At(static_cast<size_t>(document)); }
std::string_view SegmentDocuments::Title(int32_t document) const { return impl_->titles.At(static_cast<size_t>(document)); }
std::string_view SegmentDocuments::Uri(int32_t document) const { return impl_->uris.At(static_cast<size_t>(document)); }
std::string_view SegmentDocuments::SourceSha256(int32_t document) const { return impl_->shas.At(static_cast<size_t>(document)); }
uint64_t SegmentDocuments::Seq(int32_t document) const { return impl_->seqs[static_cast<size_t>(document)]; }

absl::StatusOr<std::string> SegmentDocuments::Text(int32_t document) const {
  const auto d = static_cast<size_t>(document);
  DCHECK(d < impl_->num_documents);
  const std::string_view frame = impl_->file.substr(impl_->text_offsets[d], impl_->text_offsets[d + 1] - impl_->text_offsets[d]);
  const uint64_t size = impl_->text_sizes[d];
  // The frame must claim the same size before memory is spent on it.
  if (ZSTD_getFrameContentSize(frame.data(), frame.size()) != size) {
    return DataLoss(impl_->path, ": the text of document ", document, " is not the ", size, " bytes its entry says");
  }
  std::string text(size, '\0');
  const size_t got = ZSTD_decompress(text.data(), text.size(), frame.data(), frame.size());
  if (ZSTD_isError(got) || got != size) return DataLoss(impl_->path, ": the text of document ", document, " is damaged");
  return text;
}

ChunkRef SegmentDocuments::ChunkAt(int64_t chunk) const {
  const auto c = static_cast<size_t>(chunk);
  const uint32_t document = impl_->chunk_documents[c];
  return {static_cast<int32_t>(document), static_cast<int32_t>(c - impl_->first_chunks[document]),
          {static_cast<int64_t>(impl_->chunk_begins[c]), static_cast<int64_t>(impl_->chunk_ends[c])}};
}

std::pair<int64_t, int64_t> SegmentDocuments::ChunksOf(int32_t document) const {
  const auto d = static_cast<size_t>(document);
  return {static_cast<int64_t>(impl_->first_chunks[d]), static_cast<int64_t>(impl_->first_chunks[d + 1])};
}

int32_t SegmentDocuments::FindDocument(std::string_view id) const {
  const auto& by_id = impl_->by_id;
  const auto it = std::lower_bound(by_id.begin(), by_id.end(), id, [&](uint32_t d, std::string_view wanted) { return impl_->ids.At(d) < wanted; });
  return it != by_id.end() && impl_->ids.At(*it) == id ? static_cast<int32_t>(*it) : -1;
}

std::vector<FieldValue> SegmentDocuments::FieldValues(int32_t document, std::string_view name) const {
  const Field* field = impl_->FindField(name);
  if (field == nullptr) return {};
  const auto wanted = static_cast<uint32_t>(document);
  size_t at = wanted;   // where every document has the field, its place is its ordinal
  if (field->documents.size() != impl_->num_documents) {
    const auto it = std::lower_bound(field->documents.begin(), field->documents.end(), wanted);
    if (it == field->documents.end() || *it != wanted) return {};
    at = static_cast<size_t>(it - field->documents.begin());
  }
  std::vector<FieldValue> values;
  values.reserve(field->firsts[at + 1] - field->firsts[at]);
  for (uint64_t i = field->firsts[at]; i < field->firsts[at + 1]; ++i) {
    const uint64_t bits = field->values[i];
    switch (field->types[i]) {
      case 0: values.emplace_back(std::string(impl_->dictionary.At(bits))); break;
      case 1: values.emplace_back(static_cast<int64_t>(bits)); break;
      case 2: values.emplace_back(std::bit_cast<double>(bits)); break;
      default: values.emplace_back(bits != 0); break;
    }
  }
  return values;
}

std::vector<std::string> SegmentDocuments::FieldNames() const {
  std::vector<std::string> names;
  for (const Field& field : impl_->fields) names.emplace_back(field.name);
  return names;
}

}  // namespace lectern::index
