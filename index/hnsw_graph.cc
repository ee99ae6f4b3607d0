#include "index/hnsw_graph.h"

#include <faiss/IndexHNSW.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace lectern::index {
namespace {

constexpr char kMagic[8] = {'L', 'E', 'C', 'H', 'N', 'S', 'W', '\1'};

// Foreign exceptions stop right here.
template <class Body>
absl::Status CatchFaiss(const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("not enough memory for the graph of nearest neighbours");
  } catch (const std::exception& error) {
    return Internal("FAISS: ", error.what());
  }
}

// FAISS's reader takes every count of its file at its word, would ask for terabytes, and leaks what it has read when it throws:
// this reads over the file first and lets through only what it reads to the end. The graph of `rows` vectors of `dim`: a header
// (kind, dim, rows, two fillers, trained, metric); five lists; five numbers; and the header and list of an empty flat index.
absl::Status CheckLayout(std::string_view bytes, int64_t rows, int64_t dim) {
  constexpr size_t kHeader = 4 + sizeof(int) + 3 * sizeof(int64_t) + sizeof(bool) + sizeof(int);
  const auto skip_header = [&](std::string_view kind, int64_t want_rows) {
    if (bytes.size() < kHeader || !bytes.starts_with(kind)) return false;
    int d = 0, metric = 0;
    int64_t n = 0;
    std::memcpy(&d, bytes.data() + 4, sizeof(d));
    std::memcpy(&n, bytes.data() + 4 + sizeof(d), sizeof(n));
    std::memcpy(&metric, bytes.data() + kHeader - sizeof(metric), sizeof(metric));
    bytes.remove_prefix(kHeader);
    return d == dim && n == want_rows && metric == faiss::METRIC_INNER_PRODUCT;
  };
  const auto skip_list = [&](size_t element_bytes) {
    uint64_t count = 0;
    if (bytes.size() < sizeof(count)) return false;
    std::memcpy(&count, bytes.data(), sizeof(count));
    bytes.remove_prefix(sizeof(count));
    if (count > bytes.size() / element_bytes) return false;
    bytes.remove_prefix(count * element_bytes);
    return true;
  };
  if (!skip_header("IHNf", rows)) return DataLoss("must begin as the graph of ", rows, " vectors of ", dim);
  // Odds of each level, links up to each level, levels, offsets, links.
  for (const size_t element_bytes : {sizeof(double), sizeof(int), sizeof(int), sizeof(size_t), sizeof(int)}) {
    if (!skip_list(element_bytes)) return DataLoss("has a list that is longer than the file");
  }
  constexpr size_t kNumbers = 5 * sizeof(int);
  if (bytes.size() < kNumbers) return DataLoss("ends within its numbers");
  bytes.remove_prefix(kNumbers);
  if (!skip_header("IxFI", 0) || bytes != std::string(sizeof(uint64_t), '\0')) {
    return DataLoss("must end with a flat index of no vectors");
  }
  return absl::OkStatus();
}

// Inner products of the rows' bytes: a quarter of the memory of the float vectors, and the walk compares bytes as well.
// (Debian's FAISS is compiled for plain x86-64, so its own distances are slow here.)
class TableDistance : public faiss::DistanceComputer {
 public:
  explicit TableDistance(const VectorTable& table) : table_(table) {}
  // REQUIRES: x is a row of the table, as it is when FAISS links what it adds.
  void set_query(const float* x) override { row_ = (x - table_.Row(0)) / table_.dim(); }
  float operator()(idx_t i) override { return symmetric_dis(row_, i); }
  float symmetric_dis(idx_t i, idx_t j) override {
    const int64_t stride = table_.code_bytes();
    const int32_t dot = table_.kernels().dot_codes(table_.codes() + i * stride, table_.codes() + j * stride, stride);
    return static_cast<float>(dot) * (table_.scale()[i] * table_.scale()[j]);
  }

 private:
  const VectorTable& table_;
  int64_t row_ = 0;
};

// The vectors FAISS links: they are in the table already.
class TableStorage : public faiss::Index {
 public:
  explicit TableStorage(const VectorTable& table) : Index(table.dim(), faiss::METRIC_INNER_PRODUCT), table_(table) {}
  void add(idx_t n, const float*) override { ntotal += n; }
  void search(idx_t, const float*, idx_t, float*, idx_t*, const faiss::SearchParameters*) const override {
    throw std::logic_error("search through the storage of a graph");
  }
  void reset() override { ntotal = 0; }
  faiss::DistanceComputer* get_distance_computer() const override { return new TableDistance(table_); }

 private:
  const VectorTable& table_;
};

class OneOpenMpThread {  // for the calling thread, as long as it lives
 public:
  OneOpenMpThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneOpenMpThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

struct SpanReader : faiss::IOReader {
  explicit SpanReader(std::string_view bytes) : bytes(bytes) {}
  size_t operator()(void* to, size_t size, size_t items) override {
    if (size == 0 || items == 0) return 0;
    const size_t count = std::min(items, bytes.size() / size);
    if (count > 0) std::memcpy(to, bytes.data(), count * size);
    bytes.remove_prefix(count * size);
    return count;
  }
  std::string_view bytes;
};

struct Scored {
  float score;
  int32_t row;
};
// Ties break by row, ascending.
bool Better(const Scored& a, const Scored& b) { return a.score != b.score ? a.score > b.score : a.row < b.row; }
bool Worse(const Scored& a, const Scored& b) { return Better(b, a); }

struct Scratch {
  std::vector<uint16_t> visited;  // [row] == epoch: seen in this walk
  uint16_t epoch = 0;
  std::vector<Scored> open, found;  // heaps: best first; worst first
  std::vector<int32_t> rows, dots;
};

}  // namespace

struct HnswGraph::Impl {
  faiss::HNSW hnsw;
  int64_t rows = 0;
  int dim = 0;
  mutable absl::Mutex mutex;
  mutable std::vector<std::unique_ptr<Scratch>> idle ABSL_GUARDED_BY(mutex);  // one a walk under way, kept for the next

  std::unique_ptr<Scratch> Borrow() const {
    std::unique_ptr<Scratch> scratch;
    {
      absl::MutexLock lock(&mutex);
      if (!idle.empty()) {
        scratch = std::move(idle.back());
        idle.pop_back();
      }
    }
    if (scratch == nullptr) scratch = std::make_unique<Scratch>();
    scratch->visited.resize(static_cast<size_t>(rows));
    if (++scratch->epoch == 0) {
      std::fill(scratch->visited.begin(), scratch->visited.end(), uint16_t{0});
      scratch->epoch = 1;
    }
    return scratch;
  }
  void Return(std::unique_ptr<Scratch> scratch) const {
    absl::MutexLock lock(&mutex);
    idle.push_back(std::move(scratch));
  }

  // All that the walk relies on; FAISS's reader checks none of it.
  absl::Status Validate(const std::string& where) const {
    const size_t n = static_cast<size_t>(rows);
    if (hnsw.levels.size() != n || hnsw.offsets.size() != n + 1) return DataLoss(where, ": must have ", n, " nodes");
    const std::vector<int>& sums = hnsw.cum_nneighbor_per_level;
    if (sums.size() < 2 || sums[0] != 0) return DataLoss(where, ": has no table of links a level");
    for (size_t level = 1; level < sums.size(); ++level) {
      if (sums[level] < sums[level - 1]) return DataLoss(where, ": links a level must not be negative");
    }
    if (hnsw.offsets[0] != 0 || hnsw.offsets[n] != hnsw.neighbors.size()) return DataLoss(where, ": link offsets are wrong");
    for (size_t i = 0; i < n; ++i) {
      const int levels = hnsw.levels[i];
      if (levels < 1 || static_cast<size_t>(levels) >= sums.size() || hnsw.offsets[i + 1] < hnsw.offsets[i] ||
          hnsw.offsets[i + 1] - hnsw.offsets[i] != static_cast<size_t>(sums[levels])) {
        return DataLoss(where, ": node ", i, " has levels or offsets that cannot be");
      }
    }
    for (size_t i = 0; i < n; ++i) {
      for (int level = 0; level < hnsw.levels[i]; ++level) {
        for (int at = sums[level]; at < sums[level + 1]; ++at) {
          const int to = hnsw.neighbors[hnsw.offsets[i] + at];
          if (to == -1) continue;
          if (to < -1 || to >= rows || hnsw.levels[to] <= level) {
            return DataLoss(where, ": node ", i, " links to ", to, " at level ", level, ", which is not there");
          }
        }
      }
    }
    if (n == 0) return absl::OkStatus();
    if (hnsw.entry_point < 0 || hnsw.entry_point >= rows || hnsw.max_level < 0 ||
        hnsw.levels[hnsw.entry_point] != hnsw.max_level + 1) {
      return DataLoss(where, ": its entry point is not on the top level");
    }
    return absl::OkStatus();
  }

  // Scores the unseen neighbours of `row` at `level` into scratch.rows and scratch.dots.
  void ScoreNeighbors(const VectorTable& table, const CodedQuery& coded, int32_t row, int level, bool unseen_only,
                      Scratch& s) const {
    s.rows.clear();
    const size_t base = hnsw.offsets[row];
    for (int at = hnsw.cum_nneighbor_per_level[level]; at < hnsw.cum_nneighbor_per_level[level + 1]; ++at) {
      const int32_t to = hnsw.neighbors[base + at];
      if (to < 0) break;
      if (unseen_only) {
        if (s.visited[to] == s.epoch) continue;
        s.visited[to] = s.epoch;
      }
      s.rows.push_back(to);
    }
    s.dots.resize(s.rows.size());
    table.kernels().dots_at(table.codes(), table.code_bytes(), s.rows.data(), static_cast<int64_t>(s.rows.size()),
                            coded.codes.data(), s.dots.data());
  }

  // Greedy from the entry point down to level 1.
  Scored Descend(const VectorTable& table, const CodedQuery& coded, Scratch& s) const {
    const auto score = [&](int32_t row, int32_t dot) { return table.scale()[row] * static_cast<float>(dot - coded.offset); };
    int32_t dot = 0;
    const int32_t entry = hnsw.entry_point;
    table.kernels().dots_at(table.codes(), table.code_bytes(), &entry, 1, coded.codes.data(), &dot);
    Scored best{score(entry, dot), entry};
    for (int level = hnsw.max_level; level >= 1; --level) {
      for (bool moved = true; moved;) {
        moved = false;
        ScoreNeighbors(table, coded, best.row, level, /*unseen_only=*/false, s);
        for (size_t i = 0; i < s.rows.size(); ++i) {
          const Scored next{score(s.rows[i], s.dots[i]), s.rows[i]};
          if (!Better(next, best)) continue;
          best = next;
          moved = true;
        }
      }
    }
    return best;
  }

  // The best `ef` allowed rows of a best-first walk of level 0 into s.found; false where it gave up.
  bool WalkLevelZero(const VectorTable& table, const CodedQuery& coded, Scored start, size_t ef,
                     const std::function<bool(int64_t)>& allowed, Scratch& s) const {
    // A filter may let so little through that the walk meets no end: past this a scan is cheaper.
    const int64_t most_visits = rows / 8 + 8 * static_cast<int64_t>(ef);
    int64_t visits = 0;
    s.open.assign(1, start);
    s.found.clear();
    s.visited[start.row] = s.epoch;
    const auto keep = [&](const Scored& one) {
      if (allowed != nullptr && !allowed(one.row)) return;
      s.found.push_back(one);
      std::push_heap(s.found.begin(), s.found.end(), Better);
      if (s.found.size() > ef) {
        std::pop_heap(s.found.begin(), s.found.end(), Better);
        s.found.pop_back();
      }
    };
    keep(start);
    while (!s.open.empty()) {
      std::pop_heap(s.open.begin(), s.open.end(), Worse);
      const Scored next = s.open.back();
      s.open.pop_back();
      if (s.found.size() >= ef && Better(s.found.front(), next)) break;
      ScoreNeighbors(table, coded, next.row, 0, /*unseen_only=*/true, s);
      visits += static_cast<int64_t>(s.rows.size());
      if (allowed != nullptr && visits > most_visits) return false;
      for (size_t i = 0; i < s.rows.size(); ++i) {
        const Scored one{table.scale()[s.rows[i]] * static_cast<float>(s.dots[i] - coded.offset), s.rows[i]};
        if (s.found.size() >= ef && !Better(one, s.found.front())) continue;
        s.open.push_back(one);
        std::push_heap(s.open.begin(), s.open.end(), Worse);
        keep(one);
      }
    }
    return true;
  }
};

HnswGraph::HnswGraph() : impl_(std::make_unique<Impl>()) {}
HnswGraph::~HnswGraph() = default;

absl::StatusOr<std::unique_ptr<HnswGraph>> HnswGraph::Build(const VectorTable& table, const DenseBuildOptions& options) {
  std::unique_ptr<HnswGraph> graph(new HnswGraph());
  RETURN_IF_ERROR(CatchFaiss([&] {
    const OneOpenMpThread one_thread;
    TableStorage storage(table);
    faiss::IndexHNSW index(&storage, options.m);  // does not own the storage
    index.hnsw.efConstruction = options.ef_construction;
    if (table.rows() > 0) index.add(table.rows(), table.Row(0));
    graph->impl_->hnsw = std::move(index.hnsw);
    return absl::OkStatus();
  }));
  graph->impl_->rows = table.rows();
  graph->impl_->dim = static_cast<int>(table.dim());
  return graph;
}

absl::StatusOr<FileEntry> HnswGraph::Write(SegmentFolder& folder) const {
  faiss::VectorIOWriter writer;
  RETURN_IF_ERROR(CatchFaiss([&] {
    // The links alone: the shell's own storage stays empty, the vectors lie in vectors.bin.
    faiss::IndexHNSWFlat shell(impl_->dim, 1, faiss::METRIC_INNER_PRODUCT);
    shell.hnsw = impl_->hnsw;
    shell.ntotal = impl_->rows;
    faiss::write_index(&shell, &writer);
    return absl::OkStatus();
  }));
  ASSIGN_OR_RETURN(std::unique_ptr<SegmentFile> file, folder.Create("hnsw.bin"));
  RETURN_IF_ERROR(file->Append(std::string_view(kMagic, sizeof(kMagic))));
  RETURN_IF_ERROR(file->Append({reinterpret_cast<const char*>(writer.data.data()), writer.data.size()}));
  return file->Finish();
}

absl::StatusOr<std::unique_ptr<HnswGraph>> HnswGraph::Open(SegmentFiles& files, const VectorTable& table) {
  ASSIGN_OR_RETURN(const MappedFile map, files.Take("hnsw.bin"));
  const std::string where = files.PathOf("hnsw.bin");
  std::string_view bytes = map.text();
  if (bytes.size() < sizeof(kMagic) || bytes.substr(0, sizeof(kMagic)) != std::string_view(kMagic, sizeof(kMagic))) {
    return DataLoss(where, ": is not a graph of neighbours");
  }
  bytes.remove_prefix(sizeof(kMagic));
  std::unique_ptr<HnswGraph> graph(new HnswGraph());
  RETURN_IF_ERROR(Annotate(CheckLayout(bytes, table.rows(), table.dim()), where));
  RETURN_IF_ERROR(Annotate(CatchFaiss([&]() -> absl::Status {
    SpanReader reader(bytes);
    const std::unique_ptr<faiss::Index> index(faiss::read_index(&reader));
    auto* shell = dynamic_cast<faiss::IndexHNSWFlat*>(index.get());
    if (shell == nullptr || !reader.bytes.empty()) return DataLoss("is not a graph of nearest neighbours alone");
    graph->impl_->hnsw = std::move(shell->hnsw);
    return absl::OkStatus();
  }), where));
  graph->impl_->rows = table.rows();
  graph->impl_->dim = static_cast<int>(table.dim());
  RETURN_IF_ERROR(graph->impl_->Validate(where));
  return graph;
}

bool HnswGraph::Search(const VectorTable& table, std::span<const float> query, const CodedQuery& coded, int64_t k, int64_t ef,
                       const std::function<bool(int64_t)>& allowed, std::vector<DenseHit>* hits) const {
  hits->clear();
  if (impl_->rows == 0) return true;
  std::unique_ptr<Scratch> s = impl_->Borrow();
  const Scored start = impl_->Descend(table, coded, *s);
  const bool complete = impl_->WalkLevelZero(table, coded, start, static_cast<size_t>(std::max(ef, k)), allowed, *s);
  if (complete && static_cast<int64_t>(s->found.size()) >= k) {
    // Bytes order the walk; float32 orders what is returned, over twice as many rows and some as are asked for.
    std::sort(s->found.begin(), s->found.end(), Better);
    const size_t rescored = std::min(s->found.size(), static_cast<size_t>(2 * k + 16));
    for (size_t i = 0; i < rescored; ++i) {
      const int32_t row = s->found[i].row;
      if (i + 2 < rescored) {
        const char* next = reinterpret_cast<const char*>(table.Row(s->found[i + 2].row));
        for (int64_t byte = 0; byte < table.dim() * 4; byte += 64) __builtin_prefetch(next + byte);
      }
      hits->push_back({row, table.Dot(query.data(), row)});
    }
  }
  const bool enough = complete && static_cast<int64_t>(s->found.size()) >= k;
  impl_->Return(std::move(s));
  std::sort(hits->begin(), hits->end(),
            [](const DenseHit& a, const DenseHit& b) { return a.score != b.score ? a.score > b.score : a.chunk < b.chunk; });
  if (static_cast<int64_t>(hits->size()) > k) hits->resize(static_cast<size_t>(k));
  return enough;
}

}  // namespace lectern::index
