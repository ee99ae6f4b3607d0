// decoder/load_tokenizer.h: the tokenizer and chat template that a model file brings.
//
//   ASSIGN_OR_RETURN(auto file, model_file::ModelFile::Open("qwen.gguf"));
//   ASSIGN_OR_RETURN(auto tokenizer, LoadTokenizer(*file));
//   ASSIGN_OR_RETURN(auto chat, LoadChatTemplate(*file, /*override_name=*/""));
//
// Shapes:  GGUF: the tokenizer.ggml.* keys; Hugging Face: tokenizer.json and tokenizer_config.json of the folder.
// Threads: pure functions.
// Errors:  those of the tokenizer; kNotFound where the model brings none; kUnimplemented for a chat template that is
//          not known and no name was given instead.
// Cost:    LoadTokenizer copies the vocabulary once: 50 to 200 ms for 150,000 to 260,000 tokens.
#pragma once

#include <memory>
#include <string_view>

#include "base/status.h"
#include "decoder/model_file/model_file.h"
#include "decoder/tokenizer/chat_template.h"
#include "decoder/tokenizer/tokenizer.h"

namespace lectern::decoder {

absl::StatusOr<std::unique_ptr<tokenizer::Tokenizer>> LoadTokenizer(const model_file::ModelFile& file);
absl::StatusOr<tokenizer::ChatTemplate> LoadChatTemplate(const model_file::ModelFile& file, std::string_view override_name);

}  // namespace lectern::decoder
