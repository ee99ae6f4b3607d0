// Commits and publishes until it is killed, and says on stdout what was acknowledged:
//   crash_writer DATA_DIR SEED   ->   "open", then "seq N" after each commit and "generation G" after each publish
// Exit code 1 and a line on stderr where anything fails. Used by kill_test.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <string>

#include "base/rng.h"
#include "index/data_directory.h"
#include "index/document_store.h"
#include "tests/index/durability_model.h"

namespace lectern::index::testing {
namespace {

absl::Status Say(const std::string& line) {
  // Unbuffered: a line is out before the next write begins.
  return ::write(STDOUT_FILENO, line.data(), line.size()) == static_cast<ssize_t>(line.size())
             ? absl::OkStatus()
             : Unavailable("cannot write to stdout");
}

absl::Status Write(const std::string& data_dir, uint64_t seed) {
  ASSIGN_OR_RETURN(const auto dir, DataDirectory::OpenForWriting(data_dir));
  // Small buffers: flushes, compactions and removed logs are part of the test.
  ASSIGN_OR_RETURN(const auto store,
                   DocumentStore::Open(DataDirectory::StorePath(data_dir), {.write_buffer_bytes = 64 << 10}));
  RETURN_IF_ERROR(Say("open\n"));
  Rng rng(seed);
  while (true) {
    ASSIGN_OR_RETURN(const uint64_t seq, store->Commit(ModelWrites(store->last_seq() + 1, 1 + rng.Below(8))));
    RETURN_IF_ERROR(Say("seq " + std::to_string(seq) + "\n"));
    if (rng.Below(4) != 0) continue;
    RETURN_IF_ERROR(PublishModel(*dir, seq));
    RETURN_IF_ERROR(Say("generation " + std::to_string(dir->manifest().collections.at(kModelCollection).generation) + "\n"));
  }
}

}  // namespace
}  // namespace lectern::index::testing

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: crash_writer DATA_DIR SEED\n";
    return 2;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);   // not to outlive the test
  const absl::Status status = lectern::index::testing::Write(argv[1], std::stoull(argv[2]));
  std::cerr << "crash_writer: " << status << "\n";
  return 1;
}
