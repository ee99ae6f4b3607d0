#include "service/eval/trec_io.h"

#include <zlib.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string_view>

#include "base/file.h"
#include "base/json.h"

namespace lectern::eval {
namespace {

std::vector<std::string_view> Fields(std::string_view line, bool tabs_only) {
  std::vector<std::string_view> fields;
  const std::string_view separators = tabs_only ? "\t" : " \t";
  size_t at = 0;
  while (at <= line.size()) {
    if (!tabs_only) {
      at = line.find_first_not_of(separators, at);
      if (at == std::string_view::npos) break;
    }
    const size_t end = std::min(line.find_first_of(separators, at), line.size());
    fields.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  return fields;
}

absl::Status ForEachLine(const std::string& path, std::string_view text,
                         const std::function<absl::Status(std::string_view line, int64_t number)>& fn) {
  int64_t number = 0;
  while (!text.empty()) {
    ++number;
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || line[0] == '#') continue;
    if (absl::Status status = fn(line, number); !status.ok()) {
      return Annotate(status, internal::Concat(path, ":", number));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int> ToInt(std::string_view text, const char* what) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return InvalidArgument(what, " must be an integer, got '", text, "'");
  }
  return value;
}

absl::StatusOr<double> ToDouble(std::string_view text, const char* what) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return InvalidArgument(what, " must be a finite number, got '", text, "'");
  }
  return value;
}

}  // namespace

absl::StatusOr<std::string> ReadMaybeGzip(const std::string& path) {
  std::string bytes;
  if (path == "-") {
    char buffer[1 << 16];
    for (size_t got; (got = std::fread(buffer, 1, sizeof(buffer), stdin)) > 0;) bytes.append(buffer, got);
  } else {
    ASSIGN_OR_RETURN(bytes, ReadFile(path));
  }
  if (bytes.size() < 2 || bytes[0] != '\x1f' || bytes[1] != '\x8b') return bytes;
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return Internal("zlib does not start");
  stream.next_in = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string text;
  char buffer[1 << 16];
  int rc = Z_OK;
  while (rc != Z_STREAM_END || stream.avail_in > 0) {
    if (rc == Z_STREAM_END) inflateReset(&stream);  // members may follow one another
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof(buffer);
    rc = inflate(&stream, Z_NO_FLUSH);
    text.append(buffer, sizeof(buffer) - stream.avail_out);
    if (rc != Z_OK && rc != Z_STREAM_END) break;
    if (rc == Z_OK && stream.avail_in == 0 && stream.avail_out > 0) break;  // cut short
  }
  inflateEnd(&stream);
  if (rc != Z_STREAM_END) return DataLoss(path, ": the gzip stream is damaged or cut after ", text.size(), " bytes");
  return text;
}

absl::StatusOr<Qrels> ReadQrels(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadMaybeGzip(path));
  Qrels qrels;
  RETURN_IF_ERROR(ForEachLine(path, text, [&](std::string_view line, int64_t number) -> absl::Status {
    const auto fields = Fields(line, /*tabs_only=*/false);
    if (number == 1 && fields.size() >= 3 && (fields[0] == "query-id" || fields[0] == "query_id")) return absl::OkStatus();
    if (fields.size() != 3 && fields.size() != 4) {
      return InvalidArgument("a judgement has 3 columns (query, document, grade) or 4 (TREC), got ", fields.size());
    }
    const std::string_view document = fields[fields.size() - 2];
    ASSIGN_OR_RETURN(const int grade, ToInt(fields.back(), "the grade"));
    qrels[std::string(fields[0])][std::string(document)] = grade;
    return absl::OkStatus();
  }));
  if (qrels.empty()) return InvalidArgument(path, " holds no judgement");
  return qrels;
}

absl::StatusOr<RunMap> ReadRun(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadMaybeGzip(path));
  RunMap run;
  RETURN_IF_ERROR(ForEachLine(path, text, [&](std::string_view line, int64_t) -> absl::Status {
    const auto fields = Fields(line, /*tabs_only=*/false);
    if (fields.size() == 6) {
      ASSIGN_OR_RETURN(const double score, ToDouble(fields[4], "the score"));
      run[std::string(fields[0])].push_back({std::string(fields[2]), score});
    } else if (fields.size() == 3) {  // MS MARCO: query, document, rank
      ASSIGN_OR_RETURN(const int rank, ToInt(fields[2], "the rank"));
      run[std::string(fields[0])].push_back({std::string(fields[1]), -static_cast<double>(rank)});
    } else {
      return InvalidArgument("a run line has 6 columns (TREC) or 3 (MS MARCO), got ", fields.size());
    }
    return absl::OkStatus();
  }));
  return run;
}

absl::StatusOr<std::vector<Topic>> ReadTopics(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadMaybeGzip(path));
  std::vector<Topic> topics;
  RETURN_IF_ERROR(ForEachLine(path, text, [&](std::string_view line, int64_t) -> absl::Status {
    Topic topic;
    if (line[0] == '{') {
      ASSIGN_OR_RETURN(const Json object, ParseJson(line));
      for (const char* key : {"_id", "id", "qid"}) {
        if (!topic.id.empty() || !object.contains(key)) continue;
        topic.id = object[key].is_string() ? object[key].get<std::string>() : DumpJson(object[key]);
      }
      for (const char* key : {"text", "question", "query"}) {
        if (topic.text.empty() && object.contains(key) && object[key].is_string()) topic.text = object[key];
      }
      for (const char* key : {"answers", "answer"}) {
        if (!object.contains(key)) continue;
        if (object[key].is_string()) topic.answers.push_back(object[key]);
        if (object[key].is_array()) {
          for (const Json& answer : object[key]) {
            if (answer.is_string()) topic.answers.push_back(answer);
          }
        }
      }
    } else {
      const auto fields = Fields(line, /*tabs_only=*/true);
      if (fields.size() < 2) return InvalidArgument("a topic is a JSON object, or id TAB text");
      topic.id = fields[0];
      topic.text = fields[1];
    }
    if (topic.id.empty() || topic.text.empty()) return InvalidArgument("a topic needs an id and a text");
    topics.push_back(std::move(topic));
    return absl::OkStatus();
  }));
  if (topics.empty()) return InvalidArgument(path, " holds no topic");
  return topics;
}

std::string FormatRun(const std::vector<std::pair<std::string, std::vector<RunEntry>>>& run, RunFormat format,
                      const std::string& tag) {
  std::string out;
  char line[64];
  for (const auto& [query, entries] : run) {
    float last = INFINITY;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (format == RunFormat::kMsMarco) {
        out += query + "\t" + entries[i].doc_id + "\t" + std::to_string(i + 1) + "\n";
        continue;
      }
      float score = static_cast<float>(entries[i].score);
      if (!(score < last)) score = std::nextafter(last, -INFINITY);
      last = score;
      std::snprintf(line, sizeof(line), " %zu %.9g ", i + 1, static_cast<double>(score));
      out += query + " Q0 " + entries[i].doc_id + line + tag + "\n";
    }
  }
  return out;
}

}  // namespace lectern::eval
