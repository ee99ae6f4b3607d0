#include "base/status.h"

#include <cstdio>

namespace lectern {
namespace internal {

Piece::Piece(double value) {
  text_ = {digits_, static_cast<size_t>(std::snprintf(digits_, sizeof(digits_), "%g", value))};
}

std::string Join(std::initializer_list<Piece> pieces) {
  size_t size = 0;
  for (const Piece& piece : pieces) size += piece.text().size();
  std::string out;
  out.reserve(size);
  for (const Piece& piece : pieces) out += piece.text();
  return out;
}

absl::Status Error(absl::StatusCode code, std::initializer_list<Piece> pieces) { return absl::Status(code, Join(pieces)); }

}  // namespace internal

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  return internal::Error(status.code(), {context, ": ", status.message()});
}

}  // namespace lectern
