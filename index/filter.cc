#include "index/filter.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <compare>
#include <optional>

#include "base/json.h"
#include "index/schema.h"

namespace lectern::index {

enum class FilterOp { kAll, kAny, kNot, kEq, kNe, kLt, kLe, kGt, kGe, kIn, kExists };

struct Filter::Node {
  FilterOp op = FilterOp::kAll;
  std::string field;
  std::vector<FieldValue> values;                 // one for comparisons, any number for kIn
  std::vector<std::optional<int64_t>> dates;      // beside each value: what it means against a date field
  std::vector<std::shared_ptr<const Node>> children;
};

namespace {

using Node = Filter::Node;
using NodePtr = std::shared_ptr<const Node>;

constexpr int kMaxDepth = 16;
constexpr int kMaxTerms = 256;
constexpr const char* kOpNames[] = {"all", "any", "not", "eq", "ne", "lt", "lte", "gt", "gte", "in", "exists"};

// ---- comparing ----

// Exact: an integer past 2^53 is never rounded to meet a fraction.
std::partial_ordering CompareIntDouble(int64_t a, double b) {
  if (std::isnan(b)) return std::partial_ordering::unordered;
  if (b >= 0x1p63) return std::partial_ordering::less;
  if (b < -0x1p63) return std::partial_ordering::greater;
  const double whole = std::trunc(b);
  const auto integer = static_cast<int64_t>(whole);
  if (a != integer) return a <=> integer;
  return 0.0 <=> (b - whole);
}

std::partial_ordering Compare(const FieldValue& a, const FieldValue& b) {
  if (a.index() == b.index()) {
    if (const auto* text = std::get_if<std::string>(&a)) return *text <=> std::get<std::string>(b);
    if (const auto* integer = std::get_if<int64_t>(&a)) return *integer <=> std::get<int64_t>(b);
    if (const auto* real = std::get_if<double>(&a)) return *real <=> std::get<double>(b);
    return std::get<bool>(a) <=> std::get<bool>(b);
  }
  if (const auto* integer = std::get_if<int64_t>(&a); integer != nullptr && std::holds_alternative<double>(b)) {
    return CompareIntDouble(*integer, std::get<double>(b));
  }
  if (const auto* real = std::get_if<double>(&a); real != nullptr && std::holds_alternative<int64_t>(b)) {
    return 0 <=> CompareIntDouble(std::get<int64_t>(b), *real);
  }
  return std::partial_ordering::unordered;   // unlike types never match
}

bool Holds(FilterOp op, std::partial_ordering order) {
  switch (op) {
    case FilterOp::kLt: return order < 0;
    case FilterOp::kLe: return order <= 0;
    case FilterOp::kGt: return order > 0;
    case FilterOp::kGe: return order >= 0;
    default: return order == 0;
  }
}

bool AnyHolds(const Node& node, FilterOp op, const std::vector<FieldValue>& values) {
  for (const FieldValue& value : values) {
    for (size_t i = 0; i < node.values.size(); ++i) {
      const auto* integer = std::get_if<int64_t>(&value);
      const auto order = integer != nullptr && node.dates[i].has_value() ? std::partial_ordering(*integer <=> *node.dates[i])
                                                                         : Compare(value, node.values[i]);
      if (Holds(op, order)) return true;
    }
  }
  return false;
}

bool MatchesNode(const Node& node, const Filter::ValuesOf& values_of) {
  switch (node.op) {
    case FilterOp::kAll:
      return std::all_of(node.children.begin(), node.children.end(), [&](const NodePtr& c) { return MatchesNode(*c, values_of); });
    case FilterOp::kAny:
      return std::any_of(node.children.begin(), node.children.end(), [&](const NodePtr& c) { return MatchesNode(*c, values_of); });
    case FilterOp::kNot: return !MatchesNode(*node.children[0], values_of);
    case FilterOp::kExists: return !values_of(node.field).empty();
    case FilterOp::kNe: return !AnyHolds(node, FilterOp::kEq, values_of(node.field));
    default: return AnyHolds(node, node.op, values_of(node.field));
  }
}

// ---- building, shared by both forms ----

void AddValue(Node& node, FieldValue value) {
  std::optional<int64_t> date;
  if (const auto* text = std::get_if<std::string>(&value)) {
    if (auto parsed = ParseDate(*text); parsed.ok()) date = *parsed;
  }
  node.values.push_back(std::move(value));
  node.dates.push_back(date);
}

bool IsOrdering(FilterOp op) { return op == FilterOp::kLt || op == FilterOp::kLe || op == FilterOp::kGt || op == FilterOp::kGe; }

// "where" is "byte 12" or "/all/3".
absl::Status TooManyTerms(std::string_view where) {
  return InvalidArgument("filter at ", where, ": at most ", kMaxTerms, " terms (values of 'in' count each), got more");
}
absl::Status TooDeep(std::string_view where) {
  return InvalidArgument("filter at ", where, ": conditions may nest ", kMaxDepth, " deep, got ", kMaxDepth + 1);
}

// ---- the text form ----

class TextParser {
 public:
  explicit TextParser(std::string_view text) : text_(text) {}

  absl::StatusOr<NodePtr> Parse() {
    ASSIGN_OR_RETURN(NodePtr root, Any(1));
    SkipBlanks();
    if (at_ < text_.size()) return Error("expected 'and', 'or' or the end", at_);
    return root;
  }

 private:
  absl::Status Error(std::string_view what, size_t at) const {
    const std::string_view rest = text_.substr(at, 24);
    return InvalidArgument("filter at byte ", at, ": ", what, rest.empty() ? ", got the end" : ", got '", rest, rest.empty() ? "" : "'");
  }
  void SkipBlanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
  }
  static bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0; }
  static bool IsNamePart(char c) { return IsNameStart(c) || (c >= '0' && c <= '9') || c == '.' || c == '-'; }

  // The word at the cursor, without moving.
  std::string_view PeekWord() {
    SkipBlanks();
    size_t end = at_;
    if (end < text_.size() && IsNameStart(text_[end])) {
      while (end < text_.size() && IsNamePart(text_[end])) ++end;
    }
    return text_.substr(at_, end - at_);
  }
  bool TakeWord(std::string_view wanted) {
    const std::string_view word = PeekWord();
    if (word.size() != wanted.size()) return false;
    for (size_t i = 0; i < word.size(); ++i) {
      const char lower = word[i] >= 'A' && word[i] <= 'Z' ? static_cast<char>(word[i] + 32) : word[i];
      if (lower != wanted[i]) return false;
    }
    at_ += word.size();
    return true;
  }
  bool Take(std::string_view symbol) {
    SkipBlanks();
    if (!text_.substr(at_).starts_with(symbol)) return false;
    at_ += symbol.size();
    return true;
  }

  absl::StatusOr<NodePtr> List(int depth, bool is_all) {
    const std::string_view joiner = is_all ? "and" : "or";
    auto node = std::make_shared<Node>();
    node->op = is_all ? FilterOp::kAll : FilterOp::kAny;
    do {
      ASSIGN_OR_RETURN(NodePtr child, is_all ? Negated(depth) : All(depth));
      node->children.push_back(std::move(child));
    } while (TakeWord(joiner));
    if (node->children.size() == 1) return node->children[0];
    return node;
  }
  absl::StatusOr<NodePtr> Any(int depth) { return List(depth, false); }
  absl::StatusOr<NodePtr> All(int depth) { return List(depth, true); }

  absl::StatusOr<NodePtr> Negated(int depth) {
    SkipBlanks();
    if (depth > kMaxDepth) return TooDeep(internal::Concat("byte ", at_));
    const size_t at = at_;
    if (TakeWord("not")) {
      // A field may be called `not` only in backquotes.
      ASSIGN_OR_RETURN(NodePtr child, Negated(depth + 1));
      auto node = std::make_shared<Node>();
      node->op = FilterOp::kNot;
      node->children.push_back(std::move(child));
      return node;
    }
    if (Take("(")) {
      ASSIGN_OR_RETURN(NodePtr inside, Any(depth + 1));
      if (!Take(")")) return Error(internal::Concat("expected ')' for the '(' at byte ", at), at_);
      return inside;
    }
    return Condition();
  }

  absl::StatusOr<std::string> Name() {
    SkipBlanks();
    if (at_ < text_.size() && text_[at_] == '`') {
      const size_t end = text_.find('`', at_ + 1);
      if (end == std::string_view::npos) return Error("a backquoted name has no end", at_);
      if (end == at_ + 1) return Error("a field's name is empty", at_);
      std::string name(text_.substr(at_ + 1, end - at_ - 1));
      at_ = end + 1;
      return name;
    }
    const std::string_view word = PeekWord();
    if (word.empty()) return Error("expected a field's name, 'not', 'exists' or '('", at_);
    at_ += word.size();
    return std::string(word);
  }

  absl::StatusOr<NodePtr> Condition() {
    SkipBlanks();
    const size_t start = at_;
    if (++terms_ > kMaxTerms) return TooManyTerms(internal::Concat("byte ", at_));
    auto node = std::make_shared<Node>();
    if (TakeWord("exists")) {
      if (Take("(")) {
        ASSIGN_OR_RETURN(node->field, Name());
        if (!Take(")")) return Error("expected ')'", at_);
        node->op = FilterOp::kExists;
        return node;
      }
      at_ = start;   // a field called exists
    }
    ASSIGN_OR_RETURN(node->field, Name());
    if (TakeWord("in")) {
      node->op = FilterOp::kIn;
      const bool square = Take("[");
      if (!square && !Take("(")) return Error("expected '(' after 'in'", at_);
      --terms_;   // its values count instead
      do {
        if (++terms_ > kMaxTerms) return TooManyTerms(internal::Concat("byte ", at_));
        ASSIGN_OR_RETURN(FieldValue value, Literal());
        AddValue(*node, std::move(value));
      } while (Take(","));
      if (!Take(square ? "]" : ")")) return Error(square ? "expected ',' or ']'" : "expected ',' or ')'", at_);
      return node;
    }
    if (Take("!=")) node->op = FilterOp::kNe;
    else if (Take("<=")) node->op = FilterOp::kLe;
    else if (Take(">=")) node->op = FilterOp::kGe;
    else if (Take("<")) node->op = FilterOp::kLt;
    else if (Take(">")) node->op = FilterOp::kGt;
    else if (Take("==") || Take("=")) node->op = FilterOp::kEq;
    else return Error("expected = != < <= > >= or in", at_);
    SkipBlanks();
    const size_t literal_at = at_;
    ASSIGN_OR_RETURN(FieldValue value, Literal());
    if (IsOrdering(node->op) && std::holds_alternative<bool>(value)) return Error("true and false have no order", literal_at);
    AddValue(*node, std::move(value));
    return node;
  }

  absl::StatusOr<FieldValue> Literal() {
    SkipBlanks();
    const size_t start = at_;
    if (at_ >= text_.size()) return Error("expected a value", at_);
    const char first = text_[at_];
    if (first == '\'' || first == '"') {
      std::string value;
      for (++at_; at_ < text_.size(); ++at_) {
        const char c = text_[at_];
        if (c == first) {
          if (at_ + 1 >= text_.size() || text_[at_ + 1] != first) {   // doubled: the quote itself
            ++at_;
            return FieldValue(std::move(value));
          }
          ++at_;
        }
        value.push_back(text_[at_]);
      }
      return Error("a quoted string has no end", start);
    }
    if ((first >= '0' && first <= '9') || first == '-' || first == '+' || first == '.') return Number();
    if (TakeWord("true")) return FieldValue(true);
    if (TakeWord("false")) return FieldValue(false);
    return Error("expected a number, true, false or a string in quotes", start);
  }

  absl::StatusOr<FieldValue> Number() {
    const size_t start = at_;
    const auto is_part = [](char c) { return (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E' || c == ':' || c == 'T'; };
    size_t end = at_;
    while (end < text_.size() && is_part(text_[end])) ++end;
    std::string_view digits = text_.substr(start, end - start);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    const char* const last = digits.data() + digits.size();
    at_ = end;
    int64_t integer = 0;
    if (const auto [p, error] = std::from_chars(digits.data(), last, integer); error == std::errc() && p == last) return FieldValue(integer);
    double real = 0;
    const auto [p, error] = std::from_chars(digits.data(), last, real);
    if (error == std::errc::result_out_of_range && p == last) return Error("a number outside the range of 64 bits", start);
    if (error != std::errc() || p != last || !std::isfinite(real)) return Error("not a number (dates stand in quotes)", start);
    return FieldValue(real);
  }

  std::string_view text_;
  size_t at_ = 0;
  int terms_ = 0;
};

// ---- the JSON form ----

class JsonParser {
 public:
  absl::StatusOr<NodePtr> Parse(const Json& value, const std::string& where, int depth) {
    const std::string shown = where.empty() ? "/" : where;
    if (depth > kMaxDepth) return TooDeep(shown);
    if (!value.is_object() || value.empty()) return InvalidArgument("filter at ", shown, ": expected an object with all, any, not or field");
    for (const char* key : {"all", "any", "not"}) {
      if (!value.contains(key)) continue;
      if (value.size() != 1) return InvalidArgument("filter at ", shown, ": '", key, "' stands alone in its object");
      return Combined(key, value[key], where + "/" + key, depth);
    }
    return Conditions(value, where, shown);
  }

 private:
  absl::StatusOr<NodePtr> Combined(std::string_view key, const Json& value, const std::string& where, int depth) {
    auto node = std::make_shared<Node>();
    if (key == "not") {
      node->op = FilterOp::kNot;
      ASSIGN_OR_RETURN(NodePtr child, Parse(value, where, depth + 1));
      node->children.push_back(std::move(child));
      return node;
    }
    node->op = key == "all" ? FilterOp::kAll : FilterOp::kAny;
    if (!value.is_array() || value.empty()) return InvalidArgument("filter at ", where, ": expected a list of at least one condition");
    for (size_t i = 0; i < value.size(); ++i) {
      ASSIGN_OR_RETURN(NodePtr child, Parse(value[i], internal::Concat(where, "/", i), depth + 1));
      node->children.push_back(std::move(child));
    }
    return node;
  }

  absl::StatusOr<NodePtr> Conditions(const Json& value, const std::string& where, const std::string& shown) {
    const auto field = value.find("field");
    if (field == value.end() || !field->is_string() || field->get_ref<const std::string&>().empty()) {
      return InvalidArgument("filter at ", shown, ": 'field' must be a name");
    }
    auto all = std::make_shared<Node>();
    for (const auto& [key, operand] : value.items()) {
      if (key == "field") continue;
      const std::string at = where + "/" + key;
      const auto name = std::find_if(std::begin(kOpNames) + 3, std::end(kOpNames), [&key = key](const char* n) { return key == n; });
      if (name == std::end(kOpNames)) return InvalidArgument("filter at ", at, ": unknown key '", key, "' (eq ne lt lte gt gte in exists)");
      auto node = std::make_shared<Node>();
      node->op = static_cast<FilterOp>(name - std::begin(kOpNames));
      node->field = field->get<std::string>();
      if (node->op == FilterOp::kExists) {
        RETURN_IF_ERROR(Count(at));
        if (!operand.is_boolean()) return InvalidArgument("filter at ", at, ": expected true or false");
        all->children.push_back(operand.get<bool>() ? NodePtr(node) : Not(node));
        continue;
      }
      if (node->op == FilterOp::kIn) {
        if (!operand.is_array() || operand.empty()) return InvalidArgument("filter at ", at, ": expected a list of at least one value");
        for (size_t i = 0; i < operand.size(); ++i) RETURN_IF_ERROR(AddLiteral(*node, operand[i], internal::Concat(at, "/", i)));
      } else {
        RETURN_IF_ERROR(AddLiteral(*node, operand, at));
        if (IsOrdering(node->op) && operand.is_boolean()) return InvalidArgument("filter at ", at, ": true and false have no order");
      }
      all->children.push_back(std::move(node));
    }
    if (all->children.empty()) return InvalidArgument("filter at ", shown, ": no condition beside 'field' (eq ne lt lte gt gte in exists)");
    if (all->children.size() == 1) return all->children[0];
    return all;
  }

  static NodePtr Not(NodePtr child) {
    auto node = std::make_shared<Node>();
    node->op = FilterOp::kNot;
    node->children.push_back(std::move(child));
    return node;
  }
  absl::Status Count(const std::string& where) { return ++terms_ > kMaxTerms ? TooManyTerms(where) : absl::OkStatus(); }
  absl::Status AddLiteral(Node& node, const Json& value, const std::string& where) {
    RETURN_IF_ERROR(Count(where));
    if (value.is_string()) AddValue(node, value.get<std::string>());
    else if (value.is_boolean()) AddValue(node, value.get<bool>());
    else if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) AddValue(node, value.get<double>());
    else if (value.is_number_integer()) AddValue(node, value.get<int64_t>());
    else if (value.is_number()) AddValue(node, value.get<double>());
    else return InvalidArgument("filter at ", where, ": expected a string, number, true or false");
    return absl::OkStatus();
  }
  int terms_ = 0;
};

Json Literal(const FieldValue& value) {
  return std::visit([](const auto& v) { return Json(v); }, value);
}

Json ToJsonNode(const Node& node) {
  const char* name = kOpNames[static_cast<int>(node.op)];
  if (node.op == FilterOp::kNot) return Json{{name, ToJsonNode(*node.children[0])}};
  if (node.op == FilterOp::kAll || node.op == FilterOp::kAny) {
    Json list = Json::array();
    for (const NodePtr& child : node.children) list.push_back(ToJsonNode(*child));
    return Json{{name, std::move(list)}};
  }
  Json out = {{"field", node.field}};
  if (node.op == FilterOp::kExists) {
    out[name] = true;
  } else if (node.op == FilterOp::kIn) {
    out[name] = Json::array();
    for (const FieldValue& value : node.values) out[name].push_back(Literal(value));
  } else {
    out[name] = Literal(node.values[0]);
  }
  return out;
}

// Nesting of and, or and not: the same for both forms, so that each can be written as the other.
int TreeDepth(const Node& node) {
  int deepest = 0;
  for (const NodePtr& child : node.children) deepest = std::max(deepest, TreeDepth(*child));
  return deepest + 1;
}
absl::Status CheckDepth(const Node& root) {
  const int depth = TreeDepth(root);
  if (depth <= kMaxDepth) return absl::OkStatus();
  return InvalidArgument("filter: conditions may nest ", kMaxDepth, " deep, got ", depth);
}

bool Fits(const FieldValue& value, bool is_date, FieldType type) {
  switch (type) {
    case FieldType::kString:
    case FieldType::kText: return std::holds_alternative<std::string>(value);
    case FieldType::kInt:
    case FieldType::kFloat: return std::holds_alternative<int64_t>(value) || std::holds_alternative<double>(value);
    case FieldType::kBool: return std::holds_alternative<bool>(value);
    case FieldType::kDate: return is_date;
  }
  return false;
}

absl::Status CheckNode(const Node& node, const Schema& schema) {
  for (const NodePtr& child : node.children) RETURN_IF_ERROR(CheckNode(*child, schema));
  if (node.field.empty()) return absl::OkStatus();
  const FieldSpec* spec = schema.Find(node.field);
  if (spec == nullptr) {
    std::string known;
    for (const FieldSpec& one : schema.fields()) known += (known.empty() ? "" : ", ") + one.name;
    return InvalidArgument("filter: the collection has no field '", node.field, "'; it has ", known.empty() ? "no fields" : known);
  }
  if (!spec->indexed) return InvalidArgument("filter: field '", node.field, "' is stored only (indexed = false)");
  for (size_t i = 0; i < node.values.size(); ++i) {
    if (Fits(node.values[i], node.dates[i].has_value(), spec->type)) continue;
    return InvalidArgument("filter: field '", node.field, "' is of type ", FieldTypeName(spec->type), ", got ", DumpJson(Literal(node.values[i])),
                           spec->type == FieldType::kDate ? "; a date is written \"2015-01-31\" or \"2015-01-31T12:00:00Z\"" : "");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Filter> Filter::Parse(std::string_view text) {
  ASSIGN_OR_RETURN(NodePtr root, TextParser(text).Parse());
  RETURN_IF_ERROR(CheckDepth(*root));
  return Filter(std::move(root));
}

absl::StatusOr<Filter> Filter::FromJson(const Json& value) {
  ASSIGN_OR_RETURN(NodePtr root, JsonParser().Parse(value, "", 1));
  RETURN_IF_ERROR(CheckDepth(*root));
  return Filter(std::move(root));
}

Json Filter::ToJson() const { return ToJsonNode(*root_); }

bool Filter::Matches(const ValuesOf& values_of) const { return MatchesNode(*root_, values_of); }

absl::Status Filter::Check(const Schema& schema) const { return CheckNode(*root_, schema); }

}  // namespace lectern::index
