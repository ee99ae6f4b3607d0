// bench/beir_folder.h: the texts of a BEIR folder (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv; plain or .xz).
//
//   const BeirFolder set = ReadBeirFolder("data/scifact", "test");
//
// Shapes:  texts are title + ' ' + text; the queries are those with a judgement above 0, in file order.
// Threads: one caller.
// Errors:  prints what is missing and exits: for programs that measure only.
// Cost:    reads everything into memory.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/json.h"

namespace lectern::bench {

struct BeirFolder {
  std::vector<std::string> ids, texts, query_ids, queries;
};

inline std::string ReadPlainOrXz(const std::string& path) {
  const bool plain = std::filesystem::exists(path);
  FILE* pipe = ::popen(((plain ? "cat '" + path : "xz -dc '" + path + ".xz") + "'").c_str(), "r");
  std::string all;
  std::vector<char> buffer(1 << 16);
  for (size_t got; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) all.append(buffer.data(), got);
  if (::pclose(pipe) != 0) {
    std::cerr << "cannot read " << path << "\n";
    std::exit(1);
  }
  return all;
}

inline BeirFolder ReadBeirFolder(const std::string& folder, const std::string& split) {
  const auto strip = [](const std::string& text) {
    const size_t begin = text.find_first_not_of(" \t\r\n"), end = text.find_last_not_of(" \t\r\n");
    return begin == std::string::npos ? std::string() : text.substr(begin, end - begin + 1);
  };
  const auto each = [](const std::string& text, const auto& take) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      auto json = ParseJson(line);
      if (json.ok()) take(*json);
    }
  };
  BeirFolder set;
  std::set<std::string> judged;
  std::istringstream qrels(ReadPlainOrXz(folder + "/qrels/" + split + ".tsv"));
  std::string line;
  std::getline(qrels, line);
  while (std::getline(qrels, line)) {
    std::istringstream columns(line);
    std::string query, document;
    int grade = 0;
    if (columns >> query >> document >> grade && grade > 0) judged.insert(query);
  }
  each(ReadPlainOrXz(folder + "/corpus.jsonl"), [&](const Json& json) {
    set.ids.push_back(json["_id"].get<std::string>());
    set.texts.push_back(strip(json.value("title", "") + " " + json["text"].get<std::string>()));
  });
  std::string name = folder + "/queries.jsonl";
  if (!std::filesystem::exists(name) && !std::filesystem::exists(name + ".xz")) name = folder + "/queries." + split + ".jsonl";
  each(ReadPlainOrXz(name), [&](const Json& json) {
    if (!judged.contains(json["_id"].get<std::string>())) return;
    set.query_ids.push_back(json["_id"].get<std::string>());
    set.queries.push_back(json["text"].get<std::string>());
  });
  return set;
}

}  // namespace lectern::bench
