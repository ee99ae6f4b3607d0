// tests/decoder/small_models.h: the smallest valid model files of each kind, and ways to damage them.
//
//   const std::string gguf = SmallGguf();
//
// Shapes:  whole files as byte strings.
// Threads: pure functions.
// Errors:  none.
// Cost:    a few kilobytes each.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>


namespace lectern::testing {

template <class T>
void PutValue(T value, std::string* out) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out->append(bytes, sizeof(T));
}

// A GGUF file built field by field, so that a test can also write what no tool would.
class GgufBuilder {
 public:
  static void Text(std::string_view text, std::string* out) {
    PutValue<uint64_t>(text.size(), out);
    out->append(text);
  }
  GgufBuilder& U32(std::string_view key, uint32_t value) { return Pair(key, 4, [&] { PutValue(value, &pairs_); }); }
  GgufBuilder& F32(std::string_view key, float value) { return Pair(key, 6, [&] { PutValue(value, &pairs_); }); }
  GgufBuilder& Bool(std::string_view key, bool value) { return Pair(key, 7, [&] { PutValue<uint8_t>(value, &pairs_); }); }
  GgufBuilder& String(std::string_view key, std::string_view value) { return Pair(key, 8, [&] { Text(value, &pairs_); }); }
  GgufBuilder& Strings(std::string_view key, const std::vector<std::string>& values) {
    return Array(key, 8, values.size(), [&] { for (const std::string& value : values) Text(value, &pairs_); });
  }
  GgufBuilder& Floats(std::string_view key, const std::vector<float>& values) {
    return Array(key, 6, values.size(), [&] { for (const float value : values) PutValue(value, &pairs_); });
  }
  GgufBuilder& Ints(std::string_view key, const std::vector<int32_t>& values) {
    return Array(key, 5, values.size(), [&] { for (const int32_t value : values) PutValue(value, &pairs_); });
  }
  // `type` is the format's number, `innermost_first` its order; data is placed at the next multiple of 32.
  GgufBuilder& Tensor(std::string_view name, uint32_t type, const std::vector<uint64_t>& innermost_first, std::string_view data) {
    while (data_.size() % 32 != 0) data_.push_back('\0');
    return Record(name, type, innermost_first, data_.size(), data);
  }
  GgufBuilder& Record(std::string_view name, uint32_t type, const std::vector<uint64_t>& innermost_first, uint64_t offset,
                      std::string_view data) {
    Text(name, &records_);
    PutValue<uint32_t>(static_cast<uint32_t>(innermost_first.size()), &records_);
    for (const uint64_t extent : innermost_first) PutValue(extent, &records_);
    PutValue(type, &records_);
    PutValue(offset, &records_);
    data_ += data;
    ++num_tensors_;
    return *this;
  }
  std::string Build(uint32_t version = 3) const {
    std::string out = "GGUF";
    PutValue(version, &out);
    PutValue(num_tensors_, &out);
    PutValue(num_pairs_, &out);
    out += pairs_ + records_;
    while (out.size() % 32 != 0) out.push_back('\0');
    return out + data_;
  }

 private:
  template <class Write>
  GgufBuilder& Pair(std::string_view key, uint32_t type, const Write& write) {
    Text(key, &pairs_);
    PutValue(type, &pairs_);
    write();
    ++num_pairs_;
    return *this;
  }
  template <class Write>
  GgufBuilder& Array(std::string_view key, uint32_t type, uint64_t count, const Write& write) {
    return Pair(key, 9, [&] {
      PutValue(type, &pairs_);
      PutValue(count, &pairs_);
      write();
    });
  }
  std::string pairs_, records_, data_;
  uint64_t num_pairs_ = 0, num_tensors_ = 0;
};

// The 256 characters of the byte alphabet, in byte order.
inline std::vector<std::string> ByteAlphabetTokens() {
  std::vector<std::string> out;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int c = prints ? byte : next++;
    out.push_back(c < 0x80 ? std::string(1, static_cast<char>(c))
                           : std::string{static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))});
  }
  return out;
}

// A byte-level BPE model with two merges, a control token and two tensors.
inline std::string SmallGguf() {
  std::vector<std::string> tokens = ByteAlphabetTokens();
  std::vector<int32_t> types(tokens.size(), 1);
  for (const char* token : {"th", "the"}) tokens.emplace_back(token), types.push_back(1);
  tokens.emplace_back("<|im_end|>"), types.push_back(3);
  return GgufBuilder()
      .String("general.architecture", "qwen2")
      .U32("qwen2.block_count", 1)
      .F32("qwen2.rope.freq_base", 1e6f)
      .String("tokenizer.ggml.model", "gpt2")
      .String("tokenizer.ggml.pre", "qwen2")
      .Strings("tokenizer.ggml.tokens", tokens)
      .Ints("tokenizer.ggml.token_type", types)
      .Strings("tokenizer.ggml.merges", {"t h", "th e"})
      .U32("tokenizer.ggml.eos_token_id", 258)
      .Bool("tokenizer.ggml.add_bos_token", false)
      .Tensor("token_embd.weight", 0, {4, 3}, std::string(48, 'x'))
      .Tensor("blk.0.ffn_down.weight", 8, {32, 2}, std::string(68, 'y'))
      .Build();
}

// A SentencePiece model: all bytes, four letters, a blank, two merges.
inline std::string SmallSentencePieceGguf() {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  std::vector<float> scores = {0, 0, 0};
  const auto add = [&](std::string text, int32_t type, float score) {
    tokens.push_back(std::move(text));
    types.push_back(type);
    scores.push_back(score);
  };
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) add(std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">", 6, 0);
  for (const char* text : {"t", "h", "e", "\xE2\x96\x81"}) add(text, 1, -10);
  add("th", 1, -1);
  add("\xE2\x96\x81the", 1, -2);
  add("the", 1, -3);
  add("\n\n", 4, -1000);
  return GgufBuilder()
      .String("general.architecture", "gemma3")
      .String("tokenizer.ggml.model", "llama")
      .Strings("tokenizer.ggml.tokens", tokens)
      .Floats("tokenizer.ggml.scores", scores)
      .Ints("tokenizer.ggml.token_type", types)
      .U32("tokenizer.ggml.bos_token_id", 1)
      .U32("tokenizer.ggml.eos_token_id", 2)
      .Tensor("token_embd.weight", 30, {2, 2}, std::string(8, 'x'))
      .Build();
}

inline std::string SafetensorsOf(std::string header, std::string_view data) {
  while (header.size() % 8 != 0) header.push_back(' ');
  std::string out;
  PutValue<uint64_t>(header.size(), &out);
  return out + header + std::string(data);
}

inline std::string SmallSafetensors() {
  return SafetensorsOf(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                       R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"I64","shape":[],"data_offsets":[32,40]}})",
                       std::string(40, 'z'));
}

inline std::string SmallConfig() {
  return R"({"architectures":["LlamaForCausalLM"],"hidden_size":64,"rope_theta":10000.0,"tie_word_embeddings":true,)"
         R"("rope_scaling":{"factor":8.0,"rope_type":"llama3"},"eos_token_id":[1,2],"layers":["a","b"],"x":null,"y":[1,"a"]})";
}

inline std::string SmallWordPieceJson() {
  return R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)"
         R"({"id":0,"content":"[UNK]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},)"
         R"({"id":1,"content":"[CLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},)"
         R"({"id":2,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],)"
         R"("normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},)"
         R"("pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"TemplateProcessing","single":[)"
         R"({"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}],)"
         R"("special_tokens":{"[CLS]":{"id":"[CLS]","ids":[1],"tokens":["[CLS]"]},"[SEP]":{"id":"[SEP]","ids":[2],"tokens":["[SEP]"]}}},)"
         R"("decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"[UNK]",)"
         R"("continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"a":3,"##b":4,"the":5,"cafe":6}}})";
}

inline std::string SmallBpeJson() {
  std::string vocab, separator;
  int id = 0;
  std::vector<std::string> tokens = ByteAlphabetTokens();
  tokens.insert(tokens.end(), {"th", "the"});
  for (const std::string& token : tokens) {
    vocab += separator + "\"" + (token == "\"" || token == "\\" ? "\\" : "") + token + "\":" + std::to_string(id++);
    separator = ",";
  }
  return R"({"version":"1.0","added_tokens":[{"id":258,"content":"<|im_end|>","single_word":false,"lstrip":false,"rstrip":false,)"
         R"("normalized":false,"special":true}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[)"
         R"({"type":"Split","pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},)"
         R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}]},)"
         R"("post_processor":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","dropout":null,"unk_token":null,)"
         R"("continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false,"byte_fallback":false,"vocab":{)" +
         vocab + R"(},"merges":["t h",["th","e"]]}})";
}

}  // namespace lectern::testing
