#include "index/readers/reader.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "index/readers/line_reader.h"
#include "index/readers/extract.h"

namespace lectern::index {
namespace {

namespace stdfs = std::filesystem;

constexpr const char* kNames[] = {"auto", "jsonl", "beir", "msmarco", "trectext", "md", "html", "txt", "csv", "tsv", "pdf"};

struct Extension {
  std::string_view extension;
  Format format;
};
constexpr std::array<Extension, 19> kExtensions = {{{".jsonl", Format::kJsonl}, {".ndjson", Format::kJsonl}, {".json", Format::kJsonl},
                                                    {".trec", Format::kTrectext}, {".trectext", Format::kTrectext}, {".sgml", Format::kTrectext},
                                                    {".md", Format::kMarkdown}, {".markdown", Format::kMarkdown}, {".mdown", Format::kMarkdown},
                                                    {".html", Format::kHtml}, {".htm", Format::kHtml}, {".xhtml", Format::kHtml},
                                                    {".txt", Format::kText}, {".text", Format::kText}, {".rst", Format::kText},
                                                    {".csv", Format::kCsv}, {".tsv", Format::kTsv}, {".tab", Format::kTsv}, {".pdf", Format::kPdf}}};

std::string Lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return text;
}

// By the extension behind .gz, .zst or .xz; kAuto where it says nothing.
Format ByExtension(const std::string& path) {
  stdfs::path name(Lower(stdfs::path(path).filename().string()));
  if (name.extension() == ".gz" || name.extension() == ".zst" || name.extension() == ".xz") name = name.stem();
  for (const Extension& known : kExtensions) {
    if (name.extension() == known.extension) return known.format;
  }
  return Format::kAuto;
}

// By the first bytes; kAuto where they tell nothing, as for binary data.
Format ByContent(std::string_view head) {
  if (head.starts_with("%PDF-")) return Format::kPdf;
  if (head.starts_with("\xef\xbb\xbf")) head.remove_prefix(3);
  // A character may be cut at the end of the sample.
  if (const int64_t bad = FindInvalidUtf8(head); bad >= 0 && bad + 4 < static_cast<int64_t>(head.size())) return Format::kAuto;
  if (head.find('\0') != std::string_view::npos) return Format::kAuto;
  const size_t first = head.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return Format::kText;
  const std::string start = Lower(std::string(head.substr(first, 64)));
  if (start[0] == '{') return Format::kJsonl;
  if (start.starts_with("<doc>")) return Format::kTrectext;
  if (start.starts_with("<!doctype html") || start.starts_with("<html")) return Format::kHtml;
  return Format::kText;
}

// A tab-separated file without a header: a number, one tab, a text.
bool LooksLikeMsmarco(std::string_view head) {
  const std::string_view line = head.substr(0, head.find('\n'));
  const size_t tab = line.find('\t');
  return tab != std::string_view::npos && tab > 0 && line.find('\t', tab + 1) == std::string_view::npos &&
         std::all_of(line.begin(), line.begin() + static_cast<int64_t>(tab), [](char c) { return c >= '0' && c <= '9'; });
}

absl::StatusOr<std::string> HeadOf(const std::string& path) {
  ASSIGN_OR_RETURN(auto source, ByteSource::Open(path));
  return std::string(source->Peek(4096));
}

// What the file is; a status where it cannot be told.
absl::StatusOr<Format> Detect(const std::string& path) {
  Format format = ByExtension(path);
  if (format != Format::kAuto && format != Format::kTsv) return format;
  ASSIGN_OR_RETURN(const std::string head, HeadOf(path));
  if (format == Format::kTsv) return LooksLikeMsmarco(head) ? Format::kMsmarco : Format::kTsv;
  format = ByContent(head);
  if (format == Format::kAuto) return InvalidArgument("the format of ", path, " cannot be told by its name or first bytes (--format names it)");
  return format;
}

std::string BeirCorpusIn(const stdfs::path& folder) {
  for (const char* name : {"corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst", "corpus.jsonl.xz"}) {
    std::error_code ignored;
    if (stdfs::is_regular_file(folder / name, ignored)) return name;
  }
  return "";
}

bool IsWholeFile(Format format) {
  return format == Format::kMarkdown || format == Format::kHtml || format == Format::kText || format == Format::kPdf;
}

void RejectFile(const std::string& path, const std::string& id, std::string reason, ExpandedInputs* out) {
  Item item;
  item.file = path;
  item.reject = {id, std::move(reason)};
  out->rejects.push_back(std::move(item));
}

// What lectern itself wrote: `ingest notes .` finds it beside the documents.
bool IsDataDirectory(const stdfs::path& folder) {
  std::error_code ignored;
  if (!stdfs::is_regular_file(folder / "VERSION", ignored)) return false;
  auto version = ByteSource::Open((folder / "VERSION").string());
  return version.ok() && (*version)->Peek(13) == "lectern-data ";
}
bool IsListOfRejects(const stdfs::path& file) { return file.filename().string().ends_with(".rejects.jsonl"); }

// The files of a folder and its folders, as paths within it, sorted. A file behind a link has the link's name; what cannot be
// read or is no file is among the rejects, what is hidden is counted.
absl::StatusOr<std::vector<std::string>> FilesIn(const stdfs::path& folder, ExpandedInputs* out) {
  std::vector<std::string> relatives;
  std::error_code error;
  stdfs::recursive_directory_iterator walk(folder, error);
  for (; !error && walk != stdfs::recursive_directory_iterator(); walk.increment(error)) {
    const std::string path = walk->path().string();
    const std::string relative = walk->path().lexically_relative(folder).generic_string();
    std::error_code unknown;
    const stdfs::file_status status = walk->status(unknown);   // of what a link leads to
    if (walk->path().filename().string().starts_with('.')) {
      ++out->hidden;
      walk.disable_recursion_pending();
    } else if (stdfs::is_directory(status) && walk->is_symlink(unknown)) {
      RejectFile(path, relative, "a link to a folder, which is not followed; name the folder itself", out);
    } else if (stdfs::is_directory(status) ? IsDataDirectory(walk->path()) : IsListOfRejects(walk->path())) {
      out->own.push_back(path);
      walk.disable_recursion_pending();
    } else if (stdfs::is_directory(status)) {
      if (::access(path.c_str(), R_OK | X_OK) == 0) continue;
      RejectFile(path, relative, internal::Concat("cannot list the folder: ", std::strerror(errno)), out);
      walk.disable_recursion_pending();
    } else if (stdfs::is_regular_file(status)) {
      relatives.push_back(relative);
    } else {
      RejectFile(path, relative, stdfs::exists(status) ? "not a file: a pipe, a socket or a device" : "a link to nothing", out);
    }
  }
  if (error) return Unavailable("cannot list ", folder.string(), ": ", error.message());
  std::sort(relatives.begin(), relatives.end());
  return relatives;
}

absl::Status ExpandFolder(const stdfs::path& folder, Format format, ExpandedInputs* out) {
  if (const std::string corpus = BeirCorpusIn(folder); !corpus.empty() && (format == Format::kAuto || format == Format::kBeir)) {
    out->files.push_back({(folder / corpus).string(), corpus, Format::kJsonl});
    return absl::OkStatus();
  }
  if (format == Format::kBeir) return NotFound("no corpus.jsonl (plain, .gz, .zst or .xz) in the folder ", folder.string());
  ASSIGN_OR_RETURN(const std::vector<std::string> relatives, FilesIn(folder, out));
  size_t taken = 0;
  for (const std::string& relative : relatives) {
    const std::string path = (folder / relative).string();
    Format found = format;
    if (format == Format::kAuto) {
      auto detected = Detect(path);
      if (!detected.ok()) {
        RejectFile(path, relative, std::string(detected.status().message()), out);
        continue;
      }
      found = *detected;
    } else if (const Format by_name = ByExtension(path); by_name != format && !(format == Format::kMsmarco && by_name == Format::kTsv)) {
      RejectFile(path, relative, internal::Concat("not a ", FormatName(format), " file by its name, in a folder read with --format ", FormatName(format)), out);
      continue;
    }
    out->files.push_back({path, relative, found});
    ++taken;
  }
  if (taken == 0) return InvalidArgument("the folder ", folder.string(), " holds no file to read (", relatives.size(), " files, hidden ones left out)");
  return absl::OkStatus();
}

}  // namespace

const char* FormatName(Format format) { return kNames[static_cast<int>(format)]; }

absl::StatusOr<Format> ParseFormat(std::string_view name) {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return static_cast<Format>(i);
  }
  std::string all;
  for (const char* known : kNames) all += (all.empty() ? "" : ", ") + std::string(known);
  return InvalidArgument("unknown format '", name, "'; known are ", all);
}

absl::StatusOr<ExpandedInputs> ExpandInputs(const std::vector<std::string>& inputs, Format format) {
  ExpandedInputs out;
  if (inputs.empty()) return InvalidArgument("no input: name files, folders or - for standard input");
  for (const std::string& input : inputs) {
    if (input == "-") {
      const Format given = format == Format::kAuto || format == Format::kBeir ? Format::kJsonl : format;
      if (IsWholeFile(given)) return InvalidArgument("standard input is read as records (jsonl, msmarco, trectext, csv, tsv), not as one ", FormatName(given), " file");
      out.files.push_back({"-", "-", given});
      continue;
    }
    std::error_code error;
    const stdfs::file_status status = stdfs::status(input, error);
    if (!stdfs::exists(status)) return NotFound("input ", input, " does not exist");
    if (stdfs::is_directory(status)) {
      if (IsDataDirectory(input)) return InvalidArgument(input, " is a data directory of lectern, not a folder of documents");
      RETURN_IF_ERROR(ExpandFolder(input, format, &out));
      continue;
    }
    Format found = format == Format::kBeir ? Format::kJsonl : format;
    if (found == Format::kAuto && !stdfs::is_regular_file(status)) {
      found = ByExtension(input);   // the bytes of a pipe come once: none of them can be looked at first
      if (found == Format::kAuto) found = Format::kJsonl;
    } else if (found == Format::kAuto) {
      ASSIGN_OR_RETURN(found, Detect(input));
    }
    out.files.push_back({input, stdfs::path(input).filename().string(), found});
  }
  return out;
}

absl::StatusOr<std::unique_ptr<Reader>> OpenReader(const InputFile& file, const ReaderOptions& options) {
  ASSIGN_OR_RETURN(auto source, ByteSource::Open(file.path, options.cancel));
  const bool skips_itself = IsWholeFile(file.format) || file.format == Format::kCsv || file.format == Format::kTsv;
  if (options.start_byte > 0 && !skips_itself) {
    RETURN_IF_ERROR(source->Skip(options.start_byte));
    source->SetLine(options.start_line);
  }
  switch (file.format) {
    case Format::kJsonl:
    case Format::kBeir: return MakeJsonlReader(std::move(source), file.path, options);
    case Format::kMsmarco: return MakeMsmarcoReader(std::move(source), file.path, options);
    case Format::kTrectext: return MakeTrectextReader(std::move(source), file.path, options);
    case Format::kCsv: return MakeCsvReader(std::move(source), file.path, options, ',');
    case Format::kTsv: return MakeCsvReader(std::move(source), file.path, options, '\t');
    case Format::kAuto: return InvalidArgument("the format of ", file.path, " is not settled");
    default: return MakeWholeFileReader(std::move(source), file, options);
  }
}

}  // namespace lectern::index
