// service/models.h: where models are: records in the data directory, and files in the models folder.
//
//   ModelStore models(data_dir, config.String("models.dir"));
//   ASSIGN_OR_RETURN(std::string path, models.Resolve("qwen2.5-coder-0.5b-instruct-q4_k_m"));
//   ASSIGN_OR_RETURN(ModelRecord record, models.Add(path, "reader", /*expected_sha256=*/""));
//
// Shapes:  an id names a record <data>/models/ID.json {id, path, sha256, bytes, kind, architecture}; a record refers to the
//          model file, which stays where it is.
// Threads: one process writes; reads from anywhere.
// Errors:  kFailedPrecondition: no such model, with the command that fixes it. kDataLoss: SHA-256 differs. kUnimplemented,
//          kDataLoss from the structure check of Add.
// Cost:    Resolve looks at a few paths; Add and Verify read the whole model, Sha256 the first time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/status.h"

namespace lectern::service {

struct ModelRecord {
  std::string id, path, sha256, kind, architecture;   // kind: "generate", "embed", "rerank"
  int64_t bytes = 0;
  Json ToJson() const;
};

class ModelStore {
 public:
  ModelStore(std::string data_dir, std::string models_dir);
  const std::string& models_dir() const { return models_dir_; }

  // A path that exists, a record's id, or a name in the models folder (with or without .gguf).
  absl::StatusOr<std::string> Resolve(std::string_view model) const;
  // Of the model's files. Kept in <data>/models/hashes while paths, sizes and times of the files are the same.
  absl::StatusOr<std::string> Sha256(std::string_view model) const;
  absl::StatusOr<ModelRecord> Inspect(std::string_view model) const;   // structure only, no SHA-256
  absl::StatusOr<ModelRecord> Add(const std::string& path, std::string_view id, std::string_view expected_sha256) const;
  absl::StatusOr<std::vector<ModelRecord>> List() const;               // records, then files of the models folder
  absl::StatusOr<ModelRecord> Verify(std::string_view id) const;       // reads the file again
  absl::Status Remove(std::string_view id) const;                      // the record; the model file stays

 private:
  std::string RecordPath(std::string_view id) const;
  absl::StatusOr<ModelRecord> ReadRecord(std::string_view id) const;
  std::string data_dir_, models_dir_;
};

}  // namespace lectern::service
