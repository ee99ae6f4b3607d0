#include "service/eval/trec_io.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "base/json.h"
#include "index/readers/byte_source.h"

namespace lectern::eval {
namespace {

std::vector<std::string_view> CutAtTabs(std::string_view line) {
  std::vector<std::string_view> fields;
  for (size_t at = 0; at <= line.size();) {
    const size_t end = std::min(line.find('\t', at), line.size());
    fields.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  return fields;
}

std::vector<std::string_view> CutAtBlanks(std::string_view line) {
  std::vector<std::string_view> fields;
  for (size_t at = 0; (at = line.find_first_not_of(" \t", at)) != std::string_view::npos;) {
    const size_t end = std::min(line.find_first_of(" \t", at), line.size());
    fields.push_back(line.substr(at, end - at));
    at = end;
  }
  return fields;
}

// Cut at tabs where that gives so many columns (an id may hold blanks), else at blanks.
std::vector<std::string_view> Columns(std::string_view line, std::initializer_list<size_t> counts) {
  std::vector<std::string_view> fields = CutAtTabs(line);
  const bool fits = std::find(counts.begin(), counts.end(), fields.size()) != counts.end() &&
                    std::none_of(fields.begin(), fields.end(), [](std::string_view f) { return f.empty(); });
  return fits ? fields : CutAtBlanks(line);
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

absl::StatusOr<std::string> ReadUnpacked(const std::string& path, const CancelToken* cancel) {
  ASSIGN_OR_RETURN(const auto source, index::ByteSource::Open(path, cancel));
  std::string text, piece;
  while (source->ReadSome(size_t{1} << 20, &piece)) text += piece;
  RETURN_IF_ERROR(source->status());
  return text;
}

absl::StatusOr<Qrels> ReadQrels(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadUnpacked(path));
  Qrels qrels;
  RETURN_IF_ERROR(ForEachLine(path, text, [&](std::string_view line, int64_t number) -> absl::Status {
    const auto fields = Columns(line, {3, 4});
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
  ASSIGN_OR_RETURN(const std::string text, ReadUnpacked(path));
  RunMap run;
  RETURN_IF_ERROR(ForEachLine(path, text, [&](std::string_view line, int64_t) -> absl::Status {
    const auto fields = Columns(line, {6, 3});
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
  // Counted twice, a relevant document would lift measures above what they can be.
  for (const auto& [query, entries] : run) {
    absl::flat_hash_set<std::string_view> seen;
    for (const RunEntry& entry : entries) {
      if (!seen.insert(entry.doc_id).second) return InvalidArgument(path, ": query ", query, " has document ", entry.doc_id, " more than once");
    }
  }
  return run;
}

absl::StatusOr<std::vector<Topic>> ReadTopics(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadUnpacked(path));
  std::vector<Topic> topics;
  absl::flat_hash_set<std::string> ids;
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
      const auto fields = CutAtTabs(line);
      if (fields.size() < 2) return InvalidArgument("a topic is a JSON object, or id TAB text");
      if (fields.size() > 2) return InvalidArgument("a topic has 2 columns (id TAB text), got ", fields.size());
      topic.id = fields[0];
      topic.text = fields[1];
    }
    if (topic.id.empty() || topic.text.empty()) return InvalidArgument("a topic needs an id and a text");
    if (!ids.insert(topic.id).second) return InvalidArgument("the topic id ", topic.id, " came before; a run tells topics apart by their ids");
    topics.push_back(std::move(topic));
    return absl::OkStatus();
  }));
  if (topics.empty()) return InvalidArgument(path, " holds no topic");
  return topics;
}

absl::StatusOr<std::string> FormatRun(const std::vector<std::pair<std::string, std::vector<RunEntry>>>& run, RunFormat format,
                                      const std::string& tag) {
  const std::string_view breaks = format == RunFormat::kMsMarco ? "\t\r\n" : " \t\r\n\v\f";
  const auto check = [breaks](const char* what, const std::string& word) -> absl::Status {
    if (!word.empty() && word.find_first_of(breaks) == std::string::npos) return absl::OkStatus();
    return InvalidArgument("a run's columns are separated by blanks: it cannot hold the ", what, " '", word, "'");
  };
  if (format == RunFormat::kTrec) RETURN_IF_ERROR(check("tag", tag));
  std::string out;
  char line[64];
  for (const auto& [query, entries] : run) {
    RETURN_IF_ERROR(check("query id", query));
    float last = INFINITY;
    for (size_t i = 0; i < entries.size(); ++i) {
      RETURN_IF_ERROR(check("document id", entries[i].doc_id));
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
