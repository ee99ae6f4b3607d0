// index/hnsw_graph.h: a navigable small-world graph over the rows of a VectorTable: built and stored by FAISS, walked by us.
//
//   ASSIGN_OR_RETURN(auto graph, HnswGraph::Build(table, {.m = 16}));
//   RETURN_IF_ERROR(graph->Write(folder));                                  // hnsw.bin
//   bool complete = graph->Search(table, query, coded, 10, 128, nullptr, &hits);
//
// Shapes:  node number = row number; level 0 has 2 m links a node, the levels above m.
// Threads: immutable after Build or Open; Search from any thread.
// Errors:  kDataLoss (hnsw.bin contradicts itself or the table), kResourceExhausted, kInternal (FAISS, with its message).
// Cost:    the walk compares bytes (dim a node, a quarter of the float vectors) and rescores its best in float32. Build runs
//          on one thread, so that the same vectors give the same graph: links depend on the order of insertion.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "index/data_directory.h"
#include "index/dense_index.h"
#include "index/vector_table.h"

namespace lectern::index {

class HnswGraph {
 public:
  static absl::StatusOr<std::unique_ptr<HnswGraph>> Build(const VectorTable& table, const DenseBuildOptions& options);
  static absl::StatusOr<std::unique_ptr<HnswGraph>> Open(SegmentFiles& files, const VectorTable& table);
  ~HnswGraph();
  absl::StatusOr<FileEntry> Write(SegmentFolder& folder) const;

  // The best k allowed rows that a walk of breadth `ef` meets, best first. False where the walk gave up (a filter that lets
  // too little through, or fewer than k rows met): the caller then scans all rows.
  bool Search(const VectorTable& table, std::span<const float> query, const CodedQuery& coded, int64_t k, int64_t ef,
              const std::function<bool(int64_t)>& allowed, std::vector<DenseHit>* hits) const;

 private:
  HnswGraph();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::index
