// Damaged small files of a data directory and damaged requests: each is refused with a clear
// message or read as what it says. The files of a segment and the input formats are mutated beside
// their own tests.
#include <gtest/gtest.h>

#include <string>

#include "base/file.h"
#include "base/json.h"
#include "index/collection.h"
#include "index/data_directory.h"
#include "index/filter.h"
#include "index/manifest_json.h"
#include "index/query.h"
#include "index/schema.h"
#include "tests/support/mutations.h"
#include "tests/support/temp_dir.h"

namespace lectern::index {
namespace {

using testing::Exact;
using testing::Mutations;

// A directory with one collection of one segment, and an alias.
class MutatedDirectory : public ::testing::Test {
 protected:
  MutatedDirectory() : path_(temp_ / "data") {
    auto dir = DataDirectory::OpenForWriting(path_);
    EXPECT_TRUE(dir.ok()) << dir.status();
    auto folder = (*dir)->NewSegment("books");
    auto file = (*folder)->Create("data.bin");
    EXPECT_TRUE((*file)->Append("hello").ok());
    CollectionState state{.indexed_seq = 7,
                          .segments = {{.folder = (*folder)->folder(),
                                        .files = {*(*file)->Finish()},
                                        .num_documents = 1,
                                        .num_chunks = 1}}};
    state.settings = CollectionSettings().ToJson();
    EXPECT_TRUE((*dir)->Publish("books", std::move(state)).ok());
    EXPECT_TRUE((*dir)->PublishAlias("shelf", "books").ok());
    manifest_ = (*dir)->manifest();
  }
  testing::TempDir temp_;
  const std::string path_;
  Manifest manifest_;
};

TEST_F(MutatedDirectory, IsNeverReadAsAnythingElse) {
  const std::string current = testing::ReadBytes(path_ + "/CURRENT");
  const std::string expected = EncodeManifest(manifest_);
  const std::string name = "manifest-" + current.substr(current.find("manifest-") + 9, 6) + ".json";
  for (const std::string& file : {std::string("CURRENT"), std::string("VERSION"), name}) {
    const std::string whole = testing::ReadBytes(path_ + "/" + file);
    Mutations mutations(file == name ? "manifest" : file);
    while (mutations.Next()) {
      testing::WriteBytes(path_ + "/" + file, mutations.Of(whole));
      const auto manifest = DataDirectory::ReadManifest(path_);
      mutations.Count(manifest.status());
      // CURRENT keeps its own checksum, so that it never names the manifest before.
      if (manifest.ok()) {
        EXPECT_EQ(EncodeManifest(*manifest), expected) << file << " mutation " << mutations.seed();
      }
    }
    testing::WriteBytes(path_ + "/" + file, whole);
    EXPECT_GT(mutations.refused(), 900) << file;
  }
  EXPECT_TRUE(DataDirectory::ReadManifest(path_).ok());
}

TEST_F(MutatedDirectory, AManifestThatLiesWithARightChecksumIsRefusedOrRoundTrips) {
  const std::string whole = EncodeManifest(manifest_);
  const size_t body = whole.find('\n') + 1;
  const std::string sum = HexU64(Hash64(whole.substr(body)));
  Mutations mutations("manifest, its checksum made right");
  while (mutations.Next()) {
    const std::string lies = mutations.Of(whole.substr(body));
    std::string head = whole.substr(0, body);
    head.replace(head.find(sum), sum.size(), HexU64(Hash64(lies)));
    const Exact exact(head + lies);
    const auto manifest = DecodeManifest(exact.text(), "m");
    mutations.Count(manifest.status());
    if (!manifest.ok()) continue;
    const std::string again = EncodeManifest(*manifest);
    const auto same = DecodeManifest(again, "m");
    ASSERT_TRUE(same.ok()) << same.status();
    EXPECT_EQ(EncodeManifest(*same), again);
    for (const auto& [collection, state] : manifest->collections)
      (void)CollectionSettings::FromJson(*state.settings).status();
  }
  EXPECT_GT(mutations.refused(), 500);
}

constexpr char kSchema[] =
    "closed = true\n\n[[field]]\nname = 'year'\ntype = 'int'\n\n[[field]]\nname = \"notes\"\ntype "
    "= 'text'\nmulti = true\nindexed = true\nboost = 3\n\n"
    "[[field]]\nname = 'seen'\ntype = 'date'\nindexed = false\n";

TEST(MutatedSchema, OfTomlIsRefusedOrRoundTrips) {
  Mutations mutations("schema.toml");
  while (mutations.Next()) {
    const Exact exact(mutations.Of(kSchema));
    auto schema = Schema::FromToml(exact.text());
    mutations.Count(schema.status());
    if (!schema.ok()) continue;
    const auto again = Schema::FromToml(schema->ToToml());
    ASSERT_TRUE(again.ok()) << again.status() << schema->ToToml();
    EXPECT_EQ(*again, *schema);
    Fields fields = {{"year", {int64_t{1851}}},
                     {"notes", {std::string("a"), std::string("b")}},
                     {"seen", {std::string("2021-03-04")}}};
    bool grew = false;
    (void)schema->Apply(fields, /*untyped=*/true, &grew);
  }
  EXPECT_GT(mutations.refused(), 500);
}

TEST(MutatedSettings, OfACollectionAreRefusedOrRoundTrip) {
  CollectionSettings settings;
  settings.schema = *Schema::FromToml(kSchema);
  const std::string whole = settings.ToJson().dump(1);
  Mutations mutations("settings of a collection");
  while (mutations.Next()) {
    const Exact exact(mutations.Of(whole));
    const auto json = ParseJson(exact.text());
    const auto read = json.ok() ? CollectionSettings::FromJson(*json)
                                : absl::StatusOr<CollectionSettings>(json.status());
    mutations.Count(read.status());
    if (!read.ok()) continue;
    EXPECT_TRUE(CollectionSettings::FromJson(read->ToJson()).ok());
  }
  EXPECT_GT(mutations.refused(), 500);
}

void UseFilter(const Filter& filter) {
  const Filter::ValuesOf values = [](std::string_view field) -> std::vector<FieldValue> {
    if (field == "year") return {int64_t{2015}};
    if (field == "lang") return {std::string("en"), std::string("de")};
    return {};
  };
  const bool matches = filter.Matches(values);
  const auto again = Filter::FromJson(filter.ToJson());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->Matches(values), matches);
}

TEST(MutatedFilter, OfTextIsRefusedOrMeansWhatItsJsonMeans) {
  Mutations mutations("filter, text");
  while (mutations.Next()) {
    const Exact exact(
        mutations.Of("lang = 'en' and (year >= 2015 or not exists(`odd name`)) and seen < "
                     "'2021-03-04T05:06:07Z' or x in (1, 2.5, 'z')"));
    const auto filter = Filter::Parse(exact.text());
    mutations.Count(filter.status());
    if (filter.ok()) UseFilter(*filter);
  }
  EXPECT_GT(mutations.refused(), 300);
}

TEST(MutatedFilter, OfJsonIsRefusedOrMeansWhatItsJsonMeans) {
  const std::string whole =
      R"({"all":[{"field":"lang","eq":"en"},{"any":[{"field":"year","gte":2015,"lt":2020},{"not":{"field":"x","exists":true}}]},{"field":"y","in":[1,2.5,"z"]}]})";
  Mutations mutations("filter, JSON");
  while (mutations.Next()) {
    const Exact exact(mutations.Of(whole));
    const auto json = ParseJson(exact.text());
    const auto filter = json.ok() ? Filter::FromJson(*json) : absl::StatusOr<Filter>(json.status());
    mutations.Count(filter.status());
    if (filter.ok()) UseFilter(*filter);
  }
  EXPECT_GT(mutations.refused(), 500);
}

}  // namespace
}  // namespace lectern::index
