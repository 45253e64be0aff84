// `--for`: what each place to run is given, and the table of it in Formats/choosing.md.

import SmeltStorage
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite struct DeploymentTests {
  /// One line a place.
  private static var table: String {
    "| `--for` | also | scheme | why |\n|---|---|---|---|\n"
      + Deployment.all.map { place in
        let also = place.siblings.map { "`\(place.engine.rawValue)-\($0)`" }.joined(separator: ", ")
        return "| `\(place.name)` | \(also) | `\(place.scheme)` | \(place.reason) |\n"
      }.joined()
  }

  /// `SMELT_UPDATE=1 swift test --filter Deployment` writes it.
  @Test func theDocumentListsEveryPlace() throws {
    let (start, end) = ("<!-- deployments -->\n", "<!-- /deployments -->")
    let path = formats("choosing.md")
    let text = String(decoding: try MappedFile(path: path).bytes.array, as: UTF8.self)
    let from = try #require(text.ranges(of: start).first?.upperBound)
    let to = try #require(text.ranges(of: end).first?.lowerBound)
    if getenv("SMELT_UPDATE") != nil {
      try writeFile(path, Array((text[..<from] + Self.table + text[to...]).utf8), overwrite: true)
    } else {
      #expect(
        String(text[from..<to]) == Self.table, "SMELT_UPDATE=1 swift test --filter Deployment writes it")
    }
  }

  @Test func namesAreOneOfAKind() throws {
    let names = Deployment.all.flatMap(\.names)
    #expect(Set(names).count == names.count)
    for place in Deployment.all {
      for name in place.names { #expect(try Deployment.named(name.uppercased()) == place) }
    }
    for word in ["cpu", "apple", "metal"] { #expect(try Deployment.named(word).name == "llama.cpp") }
  }

  @Test(arguments: ["vllm", "SGLang"]) func anEngineAloneIsAskedForItsChip(_ engine: String) {
    #expect {
      try Deployment.named(engine)
    } throws: { error in
      let error = error as? RequestError
      return error?.help?.contains("\(engine.lowercased())-h100") == true
    }
  }

  @Test func aMistypedNameIsAnsweredWithTheNearest() {
    #expect {
      try Deployment.named("vllm-h10")
    } throws: { error in (error as? RequestError)?.help?.hasPrefix("did you mean vllm-h100?") == true }
  }

  /// Each scheme is one that a conversion knows, in the container that the engine reads.
  @Test(arguments: Deployment.all) func theSchemeIsKnown(_ place: Deployment) throws {
    let model = try Model.open(fixture("models/qwen3_moe"))
    let result = place.isGGUF ? "x.gguf" : "x"
    let options = try ConversionRequest(
      scheme: nil, deployment: place, recipePath: nil, statisticsPath: nil, observer: nil, exactOnly: false,
      compression: nil, kind: nil, overwrite: false
    ).options(for: model, result: result, calibrates: true, RunOptions())
    #expect(try Plan(model, options).weights.contains { !$0.isKept })
  }

  @Test func anotherContainerIsRefusedAndSoIsAMissingText() throws {
    let places = ["vllm-h100": "x.ingot", "llama.cpp": "x", "vllm-b200": "x"]
    for (name, result) in places {
      let container = try Container(result: result, asked: nil)
      #expect(throws: RequestError.self) {
        try Deployment.named(name).require(container, result, hasText: false)
      }
    }
    try Deployment.named("vllm-b200").require(.safetensors, "x", hasText: true)
  }
}
