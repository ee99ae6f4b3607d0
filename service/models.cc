#include "service/models.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "decoder/model_file/model_file.h"

namespace lectern::service {
namespace {
namespace stdfs = std::filesystem;

bool IsFile(const std::string& path) {
  std::error_code error;
  return stdfs::exists(path, error);
}

std::string DefaultModelsDir() {
  if (const char* given = std::getenv("LECTERN_MODELS_DIR"); given != nullptr && *given) return given;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache) return std::string(cache) + "/lectern/models";
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : ".") + "/.cache/lectern/models";
}

absl::Status CheckId(std::string_view id) {
  const bool fine = !id.empty() && id.size() <= 128 && id[0] != '.' &&
                    std::all_of(id.begin(), id.end(), [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; });
  if (!fine) return InvalidArgument("a model id has 1 to 128 letters, digits, '-', '_' or '.', got '", id, "'");
  return absl::OkStatus();
}

}  // namespace

Json ModelRecord::ToJson() const {
  return {{"id", id}, {"kind", kind}, {"architecture", architecture}, {"path", path}, {"bytes", bytes}, {"sha256", sha256}};
}

ModelStore::ModelStore(std::string data_dir, std::string models_dir)
    : data_dir_(std::move(data_dir)), models_dir_(models_dir.empty() ? DefaultModelsDir() : std::move(models_dir)) {}

std::string ModelStore::RecordPath(std::string_view id) const { return data_dir_ + "/models/" + std::string(id) + ".json"; }

absl::StatusOr<ModelRecord> ModelStore::ReadRecord(std::string_view id) const {
  RETURN_IF_ERROR(CheckId(id));
  ASSIGN_OR_RETURN(const std::string text, ReadFile(RecordPath(id)));
  ASSIGN_OR_RETURN(const Json json, ParseJson(text));
  ModelRecord record;
  ASSIGN_OR_RETURN(record.id, JsonString(json, "id"));
  ASSIGN_OR_RETURN(record.kind, JsonString(json, "kind"));
  ASSIGN_OR_RETURN(record.architecture, JsonString(json, "architecture"));
  ASSIGN_OR_RETURN(record.path, JsonString(json, "path"));
  ASSIGN_OR_RETURN(record.bytes, JsonInt(json, "bytes"));
  ASSIGN_OR_RETURN(record.sha256, JsonString(json, "sha256"));
  return record;
}

absl::StatusOr<std::string> ModelStore::Resolve(std::string_view model) const {
  const std::string name(model);
  if (name.empty()) return FailedPrecondition("no model is set (settings reader.model, models.embed, models.rerank)");
  if (name.find('/') == std::string::npos && IsFile(RecordPath(name))) {
    ASSIGN_OR_RETURN(const ModelRecord record, ReadRecord(name));
    if (!IsFile(record.path)) {
      return FailedPrecondition("model '", name, "' was added from ", record.path, ", which is gone; add it again with `lectern model add`");
    }
    return record.path;
  }
  for (const std::string& path : {models_dir_ + "/" + name, models_dir_ + "/" + name + ".gguf", name}) {
    if (IsFile(path)) return path;
  }
  if (name.find('/') != std::string::npos) return FailedPrecondition("there is no model at ", name, ", neither a .gguf file nor a folder");
  return FailedPrecondition("model '", name, "' is neither a path, nor added to ", data_dir_, ", nor in ", models_dir_,
                            "; run scripts/fetch_models.py, or `lectern model add PATH --as ", name, "`; `lectern model list` shows what is at hand");
}

absl::StatusOr<std::string> ModelStore::Sha256(std::string_view model) const {
  ASSIGN_OR_RETURN(const std::string path, Resolve(model));
  std::error_code error;
  std::vector<std::string> files;   // "name size time" of each
  const auto add = [&](const stdfs::path& file) {
    const auto size = stdfs::file_size(file, error);
    if (error) return;   // a folder within
    files.push_back(internal::Concat(file.filename().string(), " ", size, " ", stdfs::last_write_time(file, error).time_since_epoch().count()));
  };
  if (stdfs::is_directory(path, error)) {
    for (const auto& entry : stdfs::directory_iterator(path, error)) add(entry.path());
    std::sort(files.begin(), files.end());
  } else {
    add(path);
  }
  const std::string cache = data_dir_ + "/models/hashes";
  Json known = Json::object();
  if (absl::StatusOr<std::string> text = ReadFile(cache); text.ok()) {
    if (absl::StatusOr<Json> json = ParseJson(*text); json.ok() && json->is_object()) known = *std::move(json);
  }
  const std::string key = stdfs::absolute(path, error).string();
  if (const auto it = known.find(key); it != known.end() && it->is_object() && it->value("files", Json()) == Json(files) && (*it)["sha256"].is_string()) {
    return (*it)["sha256"].get<std::string>();
  }
  ASSIGN_OR_RETURN(const auto file, model_file::ModelFile::Open(path));
  ASSIGN_OR_RETURN(const std::string sha256, file->Sha256());
  known[key] = {{"files", files}, {"sha256", sha256}};
  FileSystem& fs = FileSystem::Posix();
  // Where it cannot be kept (a read-only directory), it is computed again the next time.
  if (fs.Exists(data_dir_) && fs.CreateDirectories(data_dir_ + "/models").ok()) WriteFileAtomically(fs, cache, DumpJson(known, 1)).IgnoreError();
  return sha256;
}

absl::StatusOr<ModelRecord> ModelStore::Inspect(std::string_view model) const {
  ASSIGN_OR_RETURN(const std::string path, Resolve(model));
  ASSIGN_OR_RETURN(const auto file, model_file::ModelFile::Open(path));
  ModelRecord record;
  record.id = std::string(model);
  record.path = path;
  record.bytes = file->total_bytes();
  if (file->container() == model_file::Container::kGguf) {
    ASSIGN_OR_RETURN(record.architecture, file->String("general.architecture"));
    record.kind = "generate";
  } else {
    ASSIGN_OR_RETURN(record.architecture, file->String("model_type"));
    record.kind = record.architecture != "bert" ? "generate" : file->Find("classifier.weight") != nullptr ? "rerank" : "embed";
  }
  return record;
}

absl::StatusOr<ModelRecord> ModelStore::Add(const std::string& path, std::string_view id, std::string_view expected_sha256) const {
  RETURN_IF_ERROR(CheckId(id));
  if (!IsFile(path)) return NotFound("no file or folder at ", path);
  std::error_code error;
  const std::string absolute = stdfs::canonical(path, error).string();
  ASSIGN_OR_RETURN(ModelRecord record, Inspect(absolute));
  record.id = std::string(id);
  ASSIGN_OR_RETURN(const auto file, model_file::ModelFile::Open(absolute));
  ASSIGN_OR_RETURN(record.sha256, file->Sha256());
  if (!expected_sha256.empty() && record.sha256 != expected_sha256) {
    return DataLoss(path, " has SHA-256 ", record.sha256, ", --sha256 says ", expected_sha256, "; nothing was added");
  }
  FileSystem& fs = FileSystem::Posix();
  RETURN_IF_ERROR(fs.CreateDirectories(data_dir_ + "/models"));
  RETURN_IF_ERROR(WriteFileAtomically(fs, RecordPath(id), DumpJson(record.ToJson(), 1)));
  return record;
}

absl::StatusOr<std::vector<ModelRecord>> ModelStore::List() const {
  std::vector<ModelRecord> records;
  FileSystem& fs = FileSystem::Posix();
  if (fs.Exists(data_dir_ + "/models")) {
    ASSIGN_OR_RETURN(const auto names, fs.List(data_dir_ + "/models"));
    for (const std::string& name : names) {
      if (!name.ends_with(".json")) continue;
      ASSIGN_OR_RETURN(ModelRecord record, ReadRecord(name.substr(0, name.size() - 5)));
      records.push_back(std::move(record));
    }
  }
  if (fs.Exists(models_dir_)) {
    ASSIGN_OR_RETURN(const auto names, fs.List(models_dir_));
    for (const std::string& name : names) {
      auto record = Inspect(name);
      if (!record.ok()) continue;  // not a model
      if (record->id.ends_with(".gguf")) record->id.resize(record->id.size() - 5);
      records.push_back(*std::move(record));
    }
  }
  return records;
}

absl::StatusOr<ModelRecord> ModelStore::Verify(std::string_view id) const {
  auto record = ReadRecord(id);
  if (record.status().code() == absl::StatusCode::kNotFound) {
    return NotFound("model '", id, "' was not added to ", data_dir_, "; only added models have a SHA-256 to verify");
  }
  RETURN_IF_ERROR(record.status());
  ASSIGN_OR_RETURN(const auto file, model_file::ModelFile::Open(record->path));
  ASSIGN_OR_RETURN(const std::string now, file->Sha256());
  if (now != record->sha256) return DataLoss("model '", id, "' at ", record->path, " has SHA-256 ", now, ", was added with ", record->sha256);
  return record;
}

absl::Status ModelStore::Remove(std::string_view id) const {
  RETURN_IF_ERROR(CheckId(id));
  if (!IsFile(RecordPath(id))) return NotFound("model '", id, "' was not added to ", data_dir_);
  return FileSystem::Posix().Remove(RecordPath(id));
}

}  // namespace lectern::service
