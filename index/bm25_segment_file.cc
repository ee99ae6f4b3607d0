#include "index/bm25_segment.h"
#include "index/data_directory.h"

namespace lectern::index {

absl::Status Bm25SegmentWriter::Write(SegmentFile& file) {
  return WriteTo([&file](std::string_view bytes) { return file.Append(bytes); });
}

absl::StatusOr<std::shared_ptr<const Bm25Segment>> Bm25Segment::Open(SegmentFiles& files) {
  ASSIGN_OR_RETURN(MappedFile map, files.Take("bm25.bin"));
  auto segment = FromMapping(std::move(map));
  if (!segment.ok()) return Annotate(segment.status(), files.PathOf("bm25.bin"));
  return segment;
}

}  // namespace lectern::index
