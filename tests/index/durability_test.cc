// Every step in turn fails, or is the last before the power goes; what was acknowledged must be there afterwards.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "index/data_directory.h"
#include "index/document_store.h"
#include "tests/index/durability_model.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/temp_dir.h"

namespace lectern::index::testing {
namespace {
using lectern::testing::FaultyDisk;
using lectern::testing::TempDir;
using Fault = FaultyDisk::Fault;
using Loss = FaultyDisk::Loss;
namespace stdfs = std::filesystem;

// Two sessions of commits and publishes, the first publish of nothing; a session ends with a clean close. Stops at the first failure.
absl::Status Work(FaultyDisk& disk, const std::string& data_dir, Acknowledged* acknowledged) {
  for (int session = 0; session < 2; ++session) {
    ASSIGN_OR_RETURN(const auto dir, DataDirectory::OpenForWriting(data_dir, disk.files()));
    ASSIGN_OR_RETURN(const auto store, DocumentStore::Open(DataDirectory::StorePath(data_dir),
                                                           {.rocksdb_env = disk.rocksdb_env()}));
    for (int round = 0; round < 3; ++round) {
      ASSIGN_OR_RETURN(acknowledged->seq, store->Commit(ModelWrites(store->last_seq() + 1, 3)));
      RETURN_IF_ERROR(store->PutMeta("cursor", static_cast<int64_t>(acknowledged->seq)));
      if (session == 0 && round == 0) {   // behind a write, which rests on no publish's syncs
        RETURN_IF_ERROR(PublishNothing(*dir));
        acknowledged->generation = 1;
      }
      if (round == 1) continue;   // so that some acknowledged writes are in no published generation
      RETURN_IF_ERROR(PublishModel(*dir, acknowledged->seq));
      acknowledged->generation = dir->manifest().collections.at(kModelCollection).generation;
    }
  }
  return absl::OkStatus();
}

// Memory, where there is some to write to: FaultyDisk decides what is durable, so a real disk would only add its wait.
stdfs::path FastFolder() {
  return ::access("/dev/shm", W_OK) == 0 ? stdfs::path("/dev/shm") : stdfs::temp_directory_path();
}

// Runs the work with the fault at `operation`. Empty, or what is wrong afterwards.
struct Outcome {
  bool happened = false;
  int64_t operations = 0;
  absl::Status status;
  std::string problem;
};
Outcome RunWith(Fault fault, int64_t operation, Loss loss, const FaultyDisk::Sync* disabled = nullptr) {
  TempDir temp(FastFolder());
  const std::string root = temp / "disk", image = temp / "image";
  stdfs::create_directories(root);
  FaultyDisk disk(root);
  disk.Arm(fault, operation);
  if (disabled != nullptr) disk.Disable(*disabled);
  Acknowledged acknowledged;
  Outcome outcome;
  outcome.status = Work(disk, root + "/data", &acknowledged);
  outcome.happened = disk.fault_happened();
  outcome.operations = disk.operations();
  if (fault == Fault::kPowerCut) {
    disk.WriteImage(image, loss, static_cast<uint64_t>(operation));
  }
  const std::string found = fault == Fault::kPowerCut ? image : root;
  FaultyDisk healthy(found);   // spares the check its fsyncs
  outcome.problem = CheckState(found + "/data", acknowledged, healthy.files(), healthy.rocksdb_env());
  return outcome;
}

int64_t Stride(int64_t operations) {
  // Every operation in a soak, about thirty by default; the offset differs so that runs of one binary share no step.
  return std::getenv("LECTERN_SOAK") != nullptr ? 1 : std::max<int64_t>(1, operations / 30);
}

TEST(PowerCut, LosesNothingThatWasAcknowledgedWhenAllUnsyncedBytesAndNamesAreGone) {
  const int64_t operations = RunWith(Fault::kNone, 0, Loss::kAllUnsynced).operations;
  ASSERT_GT(operations, 100);
  int64_t cuts = 0;
  for (int64_t at = 1; at <= operations; at += Stride(operations)) {
    const Outcome outcome = RunWith(Fault::kPowerCut, at, Loss::kAllUnsynced);
    EXPECT_EQ(outcome.problem, "") << "cut at operation " << at << ", which ended with " << outcome.status;
    ++cuts;
  }
  RecordProperty("cuts", std::to_string(cuts));
}

TEST(PowerCut, LosesNothingThatWasAcknowledgedWhenSomeUnsyncedBytesAndNamesAreGone) {
  const int64_t operations = RunWith(Fault::kNone, 0, Loss::kAllUnsynced).operations;
  int64_t cuts = 0;
  for (int64_t at = 2; at <= operations; at += Stride(operations)) {
    const Outcome outcome = RunWith(Fault::kPowerCut, at, Loss::kRandom);
    EXPECT_EQ(outcome.problem, "") << "cut at operation " << at << ", which ended with " << outcome.status;
    ++cuts;
  }
  RecordProperty("cuts", std::to_string(cuts));
}

// The test above would be worth nothing if it passed without the syncs.
class MissingSync : public ::testing::TestWithParam<FaultyDisk::Sync> {};

TEST_P(MissingSync, IsNoticed) {
  const FaultyDisk::Sync sync = GetParam();
  const int64_t operations = RunWith(Fault::kNone, 0, Loss::kAllUnsynced).operations;
  // From the end, where the most was acknowledged. Every operation: some syncs matter at a few of them only.
  for (int64_t at = operations + 1; at >= 1; --at) {
    const Outcome outcome = RunWith(Fault::kPowerCut, at, Loss::kAllUnsynced, &sync);
    if (outcome.problem.empty()) continue;
    std::cout << "cut at " << at << " of " << operations << ": " << outcome.problem << "\n";
    return;
  }
  FAIL() << "no cut in " << operations << " operations shows that the sync of the " << FaultyDisk::Name(sync)
         << " is missing";
}
INSTANTIATE_TEST_SUITE_P(EachInTurn, MissingSync, ::testing::ValuesIn(FaultyDisk::AllSyncs()), [](const auto& info) {
  std::string name = FaultyDisk::Name(info.param);
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

class FailingStep : public ::testing::TestWithParam<Fault> {};

TEST_P(FailingStep, EndsInACleanStatusAndLeavesWhatWasAcknowledged) {
  const Fault fault = GetParam();
  const bool no_space = fault == Fault::kNoSpace || fault == Fault::kNoSpaceOnce;
  const int64_t operations = RunWith(Fault::kNone, 0, Loss::kAllUnsynced).operations;
  int64_t faults = 0, failures = 0;
  for (int64_t at = 1; at <= operations; at += Stride(operations)) {
    const Outcome outcome = RunWith(fault, at, Loss::kAllUnsynced);
    EXPECT_EQ(outcome.problem, "") << "operation " << at << " ended with " << outcome.status;
    ++faults;
    if (outcome.status.ok()) continue;   // the fault met something that can be done without, such as a removal
    ++failures;
    EXPECT_TRUE(no_space ? absl::IsResourceExhausted(outcome.status) : absl::IsUnavailable(outcome.status))
        << "operation " << at << ": " << outcome.status;
  }
  EXPECT_GT(failures, 5);
  RecordProperty("faults", std::to_string(faults));
  RecordProperty("failures", std::to_string(failures));
}
std::string FaultName(const ::testing::TestParamInfo<Fault>& info) {
  constexpr const char* kNames[] = {"None", "PowerCut", "NoSpaceOnce", "NoSpace", "IoErrorOnce", "IoError"};
  return kNames[static_cast<int>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(EachKind, FailingStep,
                         ::testing::Values(Fault::kNoSpaceOnce, Fault::kNoSpace, Fault::kIoErrorOnce, Fault::kIoError),
                         FaultName);

}  // namespace
}  // namespace lectern::index::testing
