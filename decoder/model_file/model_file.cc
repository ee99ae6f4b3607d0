#include "decoder/model_file/model_file.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <unordered_map>

#include "base/file.h"
#include "decoder/model_file/gguf.h"
#include "decoder/model_file/metadata.h"
#include "decoder/model_file/safetensors.h"

namespace lectern::model_file {
namespace {

constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";

std::string FolderOf(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

bool IsFolder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

bool IsFile(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

}  // namespace

struct ModelFile::Impl {
  Container container = Container::kGguf;
  std::string path;
  std::string folder;  // where companions lie
  std::vector<MappedFile> maps;
  Metadata metadata;
  std::vector<TensorInfo> tensors;
  std::unordered_map<std::string_view, const TensorInfo*> by_name;

  absl::Status OpenGguf();
  absl::Status OpenFolder();
  absl::Status AddSafetensors(const std::string& file);
  absl::Status AddShards(const std::string& index_json);
  absl::Status AddConfig();
  absl::Status Index();
};

absl::Status ModelFile::Impl::OpenGguf() {
  container = Container::kGguf;
  ASSIGN_OR_RETURN(MappedFile map, MappedFile::Open(path));
  ASSIGN_OR_RETURN(GgufContents contents, ParseGguf(map.bytes()));
  metadata = std::move(contents.metadata);
  tensors = std::move(contents.tensors);
  maps.push_back(std::move(map));
  return absl::OkStatus();
}

absl::Status ModelFile::Impl::AddSafetensors(const std::string& file) {
  ASSIGN_OR_RETURN(MappedFile map, MappedFile::Open(file));
  if (const absl::Status status = ParseSafetensors(map.bytes(), &tensors); !status.ok()) return Annotate(status, file);
  maps.push_back(std::move(map));
  return absl::OkStatus();
}

// Every tensor that the index lists must lie in the shard it names.
absl::Status ModelFile::Impl::AddShards(const std::string& index_json) {
  ASSIGN_OR_RETURN(const std::vector<ShardEntry> listed, ParseShardIndex(index_json));
  std::set<std::string> shards;  // in name order
  for (const ShardEntry& entry : listed) shards.insert(entry.file);
  std::unordered_map<std::string, std::string> found;
  for (const std::string& shard : shards) {
    const size_t before = tensors.size();
    RETURN_IF_ERROR(AddSafetensors(folder + "/" + shard));
    for (size_t i = before; i < tensors.size(); ++i) found.emplace(tensors[i].name, shard);
  }
  for (const auto& [tensor, shard] : listed) {
    const auto it = found.find(tensor);
    if (it == found.end() || it->second != shard) {
      return DataLoss(kIndexName, " places '", Printable(tensor), "' in '", Printable(shard), "', which does not hold it");
    }
  }
  return absl::OkStatus();
}

absl::Status ModelFile::Impl::AddConfig() {
  const std::string file = folder + "/config.json";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(file));
  return Annotate(ParseConfig(text, &metadata), folder);
}

absl::Status ModelFile::Impl::OpenFolder() {
  container = Container::kHuggingFace;
  RETURN_IF_ERROR(AddConfig());
  const std::string index = folder + "/" + std::string(kIndexName);
  const std::string single = folder + "/" + std::string(kSingleName);
  if (IsFile(single)) return AddSafetensors(single);
  if (IsFile(index)) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(index));
    return Annotate(AddShards(text), folder);
  }
  if (IsFile(folder + "/pytorch_model.bin")) {
    return NotSupported(folder, " holds pytorch_model.bin, which can run code when it is read; convert it to safetensors");
  }
  return NotFound(folder, " holds neither ", kSingleName, " nor ", kIndexName);
}

absl::Status ModelFile::Impl::Index() {
  for (const TensorInfo& tensor : tensors) {
    if (!by_name.emplace(tensor.name, &tensor).second) {
      return DataLoss("the tensor '", Printable(tensor.name), "' is in two files");
    }
  }
  return absl::OkStatus();
}

ModelFile::ModelFile() : impl_(std::make_unique<Impl>()) {}
ModelFile::~ModelFile() = default;

absl::StatusOr<std::unique_ptr<ModelFile>> ModelFile::Open(const std::string& path) {
  std::unique_ptr<ModelFile> file(new ModelFile);
  Impl& impl = *file->impl_;
  impl.path = path;
  if (IsFolder(path)) {
    impl.folder = path;
    RETURN_IF_ERROR(impl.OpenFolder());
  } else {
    impl.folder = FolderOf(path);
    if (path.ends_with(".safetensors")) {
      impl.container = Container::kHuggingFace;
      if (IsFile(impl.folder + "/config.json")) RETURN_IF_ERROR(impl.AddConfig());
      RETURN_IF_ERROR(impl.AddSafetensors(path));
    } else if (const absl::Status status = impl.OpenGguf(); !status.ok()) {
      return status.code() == absl::StatusCode::kNotFound ? status : Annotate(status, path);
    }
  }
  RETURN_IF_ERROR(impl.Index());
  return file;
}

Container ModelFile::container() const { return impl_->container; }
const std::string& ModelFile::path() const { return impl_->path; }
std::span<const TensorInfo> ModelFile::tensors() const { return impl_->tensors; }

const TensorInfo* ModelFile::Find(std::string_view name) const {
  const auto it = impl_->by_name.find(name);
  return it == impl_->by_name.end() ? nullptr : it->second;
}

bool ModelFile::Has(std::string_view key) const { return impl_->metadata.Has(key); }
absl::StatusOr<int64_t> ModelFile::Int(std::string_view key) const { return impl_->metadata.Int(key); }
absl::StatusOr<double> ModelFile::Number(std::string_view key) const { return impl_->metadata.Number(key); }
absl::StatusOr<bool> ModelFile::Bool(std::string_view key) const { return impl_->metadata.Bool(key); }
absl::StatusOr<std::string> ModelFile::String(std::string_view key) const { return impl_->metadata.String(key); }
absl::StatusOr<std::vector<std::string>> ModelFile::Strings(std::string_view key) const {
  return impl_->metadata.Strings(key);
}
absl::StatusOr<std::vector<double>> ModelFile::Numbers(std::string_view key) const {
  return impl_->metadata.Numbers(key);
}
absl::StatusOr<std::vector<int64_t>> ModelFile::Ints(std::string_view key) const { return impl_->metadata.Ints(key); }

absl::StatusOr<std::string> ModelFile::ReadCompanion(std::string_view name) const {
  if (!IsPlainFileName(name)) return InvalidArgument("a companion is a file name, got '", Printable(name), "'");
  const std::string file = impl_->folder + "/" + std::string(name);
  if (impl_->container != Container::kHuggingFace || !IsFile(file)) return NotFound("no ", name, " beside ", impl_->path);
  return ReadFile(file);
}

int64_t ModelFile::total_bytes() const {
  int64_t total = 0;
  for (const MappedFile& map : impl_->maps) total += static_cast<int64_t>(map.bytes().size());
  return total;
}

absl::StatusOr<std::string> ModelFile::Sha256() const {
  if (impl_->maps.size() == 1) return Sha256Hex(impl_->maps[0].text());
  std::string digests;  // several files: the hash of their hashes, one a line, in name order
  for (const MappedFile& map : impl_->maps) digests += Sha256Hex(map.text()) + "\n";
  return Sha256Hex(digests);
}

}  // namespace lectern::model_file
