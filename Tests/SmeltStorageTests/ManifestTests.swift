// Fixtures/MANIFEST.json and the files of Fixtures: the same names, sizes and hashes. A fixture that changed by accident, or that
// nobody wrote down, is found here and not in a test that fails for no visible reason.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct ManifestTests {
  private let help: Comment = "python3 Fixtures/make/manifest.py writes the manifest"

  private func manifest(_ path: String) throws -> JSON {
    try JSON.scan(try MappedFile(path: fixture(path)).bytes)
  }

  /// Size and SHA-256 of a file of Fixtures.
  private func facts(_ path: String) throws -> (bytes: Int, hash: String) {
    let bytes = try MappedFile(path: fixture(path)).bytes
    return (bytes.count, SHA256.hex(bytes))
  }

  private func files(below folder: String) throws -> [String] {
    try namesInFolder(fixture(folder)).flatMap { name -> [String] in
      let path = folder.isEmpty ? name : "\(folder)/\(name)"
      if ["make", "README.md", "MANIFEST.json"].contains(path) || name == ".DS_Store" { return [] }
      return pathKind(fixture(path)) == .directory ? try files(below: path) : [path]
    }
  }

  @Test func everyFileIsWrittenDown() throws {
    let entries = try #require(try manifest("MANIFEST.json")["files"]?.array)
    let listed = entries.compactMap { $0["path"]?.string }
    let found = try files(below: "")
    #expect(Set(listed).subtracting(found).sorted() == [], help)
    #expect(Set(found).subtracting(listed).sorted() == [], help)
    #expect(listed.count == found.count)
  }

  @Test func sizesAndHashesAreTheFiles() throws {
    let manifest = try manifest("MANIFEST.json")
    for entry in try #require(manifest["files"]?.array) {
      let path = try #require(entry["path"]?.string)
      guard pathKind(fixture(path)) == .file else { continue }
      let facts = try facts(path)
      #expect(entry["bytes"]?.integer == facts.bytes, "\(path)")
      #expect(entry["sha256"]?.string == facts.hash, "\(path)")
      let maker = try #require(entry["maker"]?.string)
      #expect(manifest["makers"]?[maker]?["script"]?.string != nil, "\(path) is made by '\(maker)'")
    }
  }

  /// What the golden models say about themselves.
  @Test func modelsAgreeWithTheirOwnManifests() throws {
    let models = try namesInFolder(fixture("models"))
    #expect(!models.isEmpty)
    for model in models {
      let files = try #require(try manifest("models/\(model)/manifest.json")["files"]?.object)
      for (name, entry) in zip(files.keys, files.values) {
        let facts = try facts("models/\(model)/\(name)")
        #expect(
          entry["bytes"]?.integer == facts.bytes && entry["sha256"]?.string == facts.hash, "\(model)/\(name)")
      }
    }
  }
}
