// base/json_fwd.h: the name of a JSON value, for headers: the library itself costs every file that sees it three seconds.
//
//   Json ToJson() const;                        // a declaration needs no more than this header
//   struct State { JsonBox settings; };         // a member; what reads it includes base/json.h
//   (*state.settings)["k1"] = 1.2;  state.settings->contains("k1");
//
// Shapes:  a box holds one value, null at first; copies are deep.
// Threads: as a value's: one thread.
// Errors:  none of its own.
// Cost:    one allocation a box that is not null.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>

namespace lectern {

using Json = nlohmann::ordered_json;

class JsonBox {
 public:
  JsonBox();
  JsonBox(Json value);   // as a Json does, it takes what is given without a word
  JsonBox(const JsonBox& other);
  JsonBox(JsonBox&& other) noexcept;   // leaves null
  JsonBox& operator=(JsonBox other) noexcept;
  ~JsonBox();
  Json& operator*();
  const Json& operator*() const;
  Json* operator->() { return &**this; }
  const Json* operator->() const { return &**this; }

 private:
  std::unique_ptr<Json> value_;   // none: null
};

}  // namespace lectern
