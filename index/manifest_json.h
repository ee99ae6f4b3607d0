// index/manifest_json.h: the bytes of a manifest file, to and from values.
//
//   std::string bytes = EncodeManifest(manifest);
//   ASSIGN_OR_RETURN(Manifest manifest, DecodeManifest(bytes, "manifest-000017.json"));
//
// Shapes:  one JSON object; its first line holds the XXH3 of every byte after that line.
// Threads: any.
// Errors:  kDataLoss (checksum, a missing or impossible value), kUnimplemented (a newer format, by name).
// Cost:    a manifest has some hundred bytes a segment.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "index/data_directory.h"

namespace lectern::index {

inline constexpr int kManifestFormat = 1;

std::string EncodeManifest(const Manifest& manifest);
absl::StatusOr<Manifest> DecodeManifest(std::string_view bytes, std::string_view name);

}  // namespace lectern::index
