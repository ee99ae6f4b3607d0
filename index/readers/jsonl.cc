// JSON lines: {id|_id|docid, title?, text|contents|segment|body, uri|url?, ...fields}, and the bulk protocol's
// {"op":"put","doc":{...}} and {"op":"delete","id":...}. Objects inside become fields with dotted names; what is in "fields"
// becomes fields as it stands; a list of other than scalars is kept as the JSON it is; null is no value.
#include <simdjson.h>

#include <algorithm>
#include <array>

#include "base/json.h"
#include "index/readers/line_reader.h"

namespace lectern::index {
namespace {

namespace dom = simdjson::dom;

constexpr std::array<std::string_view, 3> kIdKeys = {"id", "_id", "docid"};
constexpr const char* kOneALine = "; a record stands on one line, without a list around it (`jq -c '.[]' FILE` makes lines of a list)";
constexpr std::array<std::string_view, 4> kTextKeys = {"text", "contents", "segment", "body"};

class JsonlReader : public Reader {
 public:
  JsonlReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options)
      : source_(std::move(source)), file_(std::move(file)), options_(options) {}

  absl::StatusOr<std::optional<Item>> Next() override {
    NextLine& next = next_;
    RETURN_IF_ERROR(ReadNextLine(*source_, file_, options_, &next));
    if (next.reject || next.done) return next.reject;
    Item item = next.item;
    Record record;
    std::string id;
    std::string reason = Parse(next.line.text, &record, &id);
    if (reason.empty()) {
      item.record = std::move(record);
    } else {
      item.reject = {std::move(id), std::move(reason)};
    }
    return item;
  }

 private:
  // Empty where it went well, else the reason.
  std::string Parse(std::string& line, Record* record, std::string* id) {
    if (line.size() > capacity_) {
      capacity_ = std::max(line.size(), std::min<size_t>(capacity_ * 2, static_cast<size_t>(options_.max_record_bytes)));
      if (parser_.allocate(capacity_, static_cast<size_t>(options_.max_json_depth)) != simdjson::SUCCESS) return "no memory to parse this record";
    }
    const size_t size = line.size();
    line.reserve(size + simdjson::SIMDJSON_PADDING);
    dom::element root;
    if (const auto error = parser_.parse(line.data(), size, /*realloc_if_needed=*/false).get(root); error != simdjson::SUCCESS) return Explain(line, error);
    dom::object object;
    if (root.get_object().get(object) != simdjson::SUCCESS) return internal::Concat("a record must be a JSON object", root.is_array() ? kOneALine : "");
    record->document.extractor = "jsonl/1";
    dom::element op;
    const bool has_op = object.at_key("op").get(op) == simdjson::SUCCESS && op.is_string();
    if (has_op) {
      if (std::string reason; Bulk(object, op.get_string().value_unsafe(), record, id, &reason)) return reason;
    }
    std::string reason = Document(object, record, id);
    if (reason.empty()) record->document.source = line;
    else if (has_op && reason.starts_with("no ")) reason += internal::Concat("; op is put, with a doc, or delete, with an id, got '", op.get_string().value_unsafe(), "'");
    return reason;
  }

  std::string Explain(std::string_view line, simdjson::error_code error) const {
    if (error == simdjson::DEPTH_ERROR) return internal::Concat("JSON nested more than ", options_.max_json_depth, " deep");
    // The fast parser says what, the slow one says where.
    const auto again = ParseJson(line, {.max_depth = options_.max_json_depth, .max_bytes = options_.max_record_bytes});
    if (!again.ok()) {
      const size_t first = line.find_first_not_of(" \t");
      const bool goes_on = line[first] == '[' || line.find_first_not_of(" \t", first + 1) == std::string_view::npos;
      return std::string(again.status().message()) + (goes_on ? kOneALine : "");
    }
    return internal::Concat("malformed JSON: ", simdjson::error_message(error));
  }

  // True where the line is one of the bulk protocol's; then *reason says how it went.
  bool Bulk(dom::object object, std::string_view op, Record* record, std::string* id, std::string* reason) {
    dom::object inner;
    if (op == "put" && object.at_key("doc").get_object().get(inner) == simdjson::SUCCESS) {
      dom::element vector;
      if (inner.at_key("vector").get(vector) == simdjson::SUCCESS && !vector.is_null()) {
        *reason = "vectors of one's own are not supported by this build";
      } else {
        *reason = Document(inner, record, id);
        if (reason->empty()) record->document.source = simdjson::minify(inner);
      }
      return true;
    }
    dom::element value;
    if (op == "delete" && object.at_key("text").error() == simdjson::NO_SUCH_FIELD && object.at_key("id").get(value) == simdjson::SUCCESS) {
      *reason = IdOf(value, id);
      record->is_delete = true;
      record->document.id = *id;
      return true;
    }
    return false;
  }

  static std::string IdOf(dom::element value, std::string* id) {
    if (value.is_string()) *id = value.get_string().value_unsafe();
    else if (value.is_int64() || value.is_uint64()) *id = simdjson::minify(value);
    else return "an id must be a string or a whole number, got " + std::string(simdjson::minify(value)).substr(0, 60);
    return CheckId(*id);
  }

  std::string Document(dom::object object, Record* record, std::string* id) {
    const std::string_view id_key = KeyOf(object, options_.id_field, kIdKeys);
    const std::string_view text_key = KeyOf(object, options_.text_field, kTextKeys);
    if (id_key.empty()) return Missing("id", options_.id_field, kIdKeys);
    lectern::index::Document& document = record->document;
    int ids = 0, texts = 0, titles = 0;
    for (const dom::key_value_pair pair : object) {
      const bool is_text = pair.key == text_key, is_title = pair.key == "title";
      if (pair.key == id_key) {
        if (std::string reason = IdOf(pair.value, id); !reason.empty()) return reason;
        document.id = *id;
        if (++ids > 1) return internal::Concat("the key '", pair.key, "' appears twice");
      } else if (is_text || is_title) {
        if (++(is_text ? texts : titles) > 1) return internal::Concat("the key '", pair.key, "' appears twice");
        if (pair.value.is_null()) continue;
        if (!pair.value.is_string()) return internal::Concat("'", pair.key, "' must be a string");
        (is_text ? document.text : document.title) = std::string(pair.value.get_string().value_unsafe());
      } else if ((pair.key == "uri" || pair.key == "url") && pair.value.is_string() && document.uri.empty()) {
        document.uri = std::string(pair.value.get_string().value_unsafe());
      } else if (dom::object inner; pair.key == "fields" && pair.value.get(inner) == simdjson::SUCCESS) {
        for (const dom::key_value_pair field : inner) AddField(document.fields, std::string(field.key), field.value);
      } else if (pair.key == "vector" && pair.value.is_null()) {
        continue;
      } else {
        AddField(document.fields, std::string(pair.key), pair.value);
      }
    }
    if (text_key.empty()) return Missing("text", options_.text_field, kTextKeys);
    return "";
  }

  // The first of the names that the object has, or the one that was asked for; empty where there is none. The others
  // of the names are fields like any.
  template <size_t n>
  static std::string_view KeyOf(dom::object object, const std::string& wanted, const std::array<std::string_view, n>& names) {
    size_t best = n;
    std::string_view found;
    for (const dom::key_value_pair pair : object) {
      if (!wanted.empty()) {
        if (pair.key == wanted) return pair.key;
        continue;
      }
      for (size_t i = 0; i < best; ++i) {
        if (pair.key == names[i]) best = i, found = pair.key;
      }
    }
    return found;
  }
  template <size_t n>
  static std::string Missing(const char* what, const std::string& wanted, const std::array<std::string_view, n>& names) {
    if (!wanted.empty()) return internal::Concat("no ", what, ": the key '", wanted, "' is missing");
    std::string all;
    for (const std::string_view name : names) all += (all.empty() ? "" : ", ") + std::string(name);
    return internal::Concat("no ", what, ": looked for ", all, " (--", what, "-field names another key)");
  }
  static bool Scalar(dom::element value, std::vector<FieldValue>* out) {
    switch (value.type()) {
      case dom::element_type::STRING: out->emplace_back(std::string(value.get_string().value_unsafe())); return true;
      case dom::element_type::INT64: out->emplace_back(value.get_int64().value_unsafe()); return true;
      case dom::element_type::UINT64: out->emplace_back(static_cast<double>(value.get_uint64().value_unsafe())); return true;
      case dom::element_type::DOUBLE: out->emplace_back(value.get_double().value_unsafe()); return true;
      case dom::element_type::BOOL: out->emplace_back(value.get_bool().value_unsafe()); return true;
      case dom::element_type::NULL_VALUE: return true;
      default: return false;
    }
  }
  // The depth is bounded by the parser's.
  static void AddField(std::map<std::string, std::vector<FieldValue>>& fields, const std::string& name, dom::element value) {
    if (dom::object object; value.get(object) == simdjson::SUCCESS) {
      for (const dom::key_value_pair pair : object) AddField(fields, name + "." + std::string(pair.key), pair.value);
      return;
    }
    std::vector<FieldValue> values;
    if (dom::array array; value.get(array) == simdjson::SUCCESS) {
      for (const dom::element element : array) {
        if (!Scalar(element, &values)) values.emplace_back(std::string(simdjson::minify(element)));
      }
    } else {
      Scalar(value, &values);
    }
    if (values.empty()) return;
    std::vector<FieldValue>& all = fields[name];
    all.insert(all.end(), values.begin(), values.end());
  }

  std::unique_ptr<ByteSource> source_;
  std::string file_;
  ReaderOptions options_;
  dom::parser parser_;
  size_t capacity_ = 0;
  NextLine next_;
};

}  // namespace

std::unique_ptr<Reader> MakeJsonlReader(std::unique_ptr<ByteSource> source, std::string file, const ReaderOptions& options) {
  return std::make_unique<JsonlReader>(std::move(source), std::move(file), options);
}

}  // namespace lectern::index
