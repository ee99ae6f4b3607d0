#include "index/bm25_segment.h"
#include "index/data_directory.h"

namespace lectern::index {

absl::Status Bm25SegmentWriter::Write(SegmentFile& file) {
  return WriteTo([&file](std::string_view bytes) { return file.Append(bytes); });
}

absl::StatusOr<std::shared_ptr<const Bm25Segment>> Bm25Segment::Open(const std::string& segment_path,
                                                                     const FileEntry& entry) {
  ASSIGN_OR_RETURN(MappedFile map, OpenSegmentFile(segment_path, entry));
  auto segment = FromMapping(std::move(map));
  if (!segment.ok()) return Annotate(segment.status(), segment_path + "/" + entry.name);
  return segment;
}

}  // namespace lectern::index
