// decoder/model_file/model_file.h: a model on disk, GGUF or a Hugging Face folder, checked before use.
//
//   ASSIGN_OR_RETURN(auto file, ModelFile::Open("model.gguf"));      // or a folder with config.json
//   const TensorInfo* t = file->Find("token_embd.weight");           // null where absent
//   ASSIGN_OR_RETURN(int64_t layers, file->Int("qwen2.block_count"));
//
// Shapes:  a tensor's shape is row-major, outermost axis first ([out, in] for a linear layer), whatever
//          order the file keeps. Bytes point into the mapping and live as long as the ModelFile.
// Threads: immutable after Open; any thread.
// Errors:  kNotFound (file), kDataLoss (truncated, overlapping, overflowing, misaligned: with the offset),
//          kUnimplemented (unknown version or tensor type, by name), kInvalidArgument (wrong type of a key).
// Cost:    Open reads the header only; tensors are mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"

namespace lectern::model_file {

struct TensorInfo {
  std::string name;
  DType type = DType::kF32;
  std::vector<int64_t> shape;         // outermost first
  std::span<const std::byte> bytes;   // exactly the size its type and shape ask for
};

enum class Container { kGguf, kHuggingFace };

class ModelFile {
 public:
  static absl::StatusOr<std::unique_ptr<ModelFile>> Open(const std::string& path);
  ~ModelFile();

  Container container() const;
  const std::string& path() const;
  std::span<const TensorInfo> tensors() const;            // in file order
  const TensorInfo* Find(std::string_view name) const;    // O(1)

  // Metadata. GGUF: its key-value pairs. Hugging Face: config.json, nested keys joined by '.'.
  bool Has(std::string_view key) const;
  absl::StatusOr<int64_t> Int(std::string_view key) const;
  absl::StatusOr<double> Number(std::string_view key) const;
  absl::StatusOr<bool> Bool(std::string_view key) const;
  absl::StatusOr<std::string> String(std::string_view key) const;
  absl::StatusOr<std::vector<std::string>> Strings(std::string_view key) const;
  absl::StatusOr<std::vector<double>> Numbers(std::string_view key) const;
  absl::StatusOr<std::vector<int64_t>> Ints(std::string_view key) const;

  // A companion of a Hugging Face folder (tokenizer.json, tokenizer_config.json, ...); kNotFound where absent.
  absl::StatusOr<std::string> ReadCompanion(std::string_view name) const;

  int64_t total_bytes() const;                 // all files
  absl::StatusOr<std::string> Sha256() const;  // of the GGUF file, or of the safetensors files in name order; reads it all

 private:
  ModelFile();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::model_file
