// The library as its users meet it.

import Smelt
import SmeltStorage
import SmeltTestSupport
import Synchronization
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite struct LibraryTests {
  private let trained = fixture("models/tiny-v4")
  private let golden = fixture("models/qwen3_moe")

  /// The article shows the code that this target compiles.
  @Test func theArticleShowsTheExample() throws {
    let article = String(
      decoding: try contents(repositoryRoot + "/Sources/Smelt/Smelt.docc/TenLines.md"), as: UTF8.self)
    let file = String(
      decoding: try contents(repositoryRoot + "/Tests/SmeltTests/TenLines.swift"), as: UTF8.self)
    func between(_ text: String, _ open: String, _ close: String) throws -> Substring {
      let start = try #require(text.firstRange(of: open)).upperBound
      return text[start..<(try #require(text[start...].firstRange(of: close))).lowerBound]
    }
    let shown = try between(article, "```swift\n", "```\n")
    #expect(try between(file, "// example begins\n", "// example ends\n") == shown)
    #expect(shown.split(separator: "\n").count <= 12)
  }

  @Test func theExampleRuns() throws {
    let folder = TemporaryFolder()
    let text = folder.file("text.txt")
    try writeFile(text, Array(contents("\(trained)/evaluation.txt").prefix(8000)), overwrite: false)
    #expect(try shrink(trained, into: folder.file("out.ingot"), checkedOn: text))
  }

  @Test func aModelSaysWhatItIs() throws {
    let model = try Model(opening: golden)
    #expect(model.container == "safetensors" && model.architecture == "qwen3_moe" && model.layers > 0)
    #expect(model.experts > 0 && model.noForwardPass == nil)
    let found = try model.inspect()
    #expect(found.parameters > found.activeParameters && !found.tensors.isEmpty)
    #expect(found.json.contains("smelt.inspect/1"))
    try model.check()
  }

  @Test func aPlanIsWhatAConversionDoes() throws {
    let folder = TemporaryFolder()
    let model = try Model(opening: golden)
    let conversion = Conversion(scheme: "fp8-channel")
    let plan = try model.plan(to: folder.file("r.ingot"), conversion)
    #expect(plan.entries.contains { $0.fate == "converted" && $0.scheme == "fp8-channel" })
    let made = try model.convert(to: folder.file("r.ingot"), conversion)
    #expect(made.container == "ingot" && made.contentHash != nil)
    #expect(made.converted.weights == plan.entries.count { $0.fate == "converted" })
    let found = try model.verify(Model(opening: made.path))
    #expect(found.verdict == .notJudged && found.meanKL == nil && found.faults.isEmpty)
    #expect(found.exactWeights.count == found.exactWeights.of - made.converted.weights + made.converted.exact)
  }

  /// A repository is opened by its name where that is asked for, and what is fetched can be kept where other tools find it.
  @Test func aModelOfTheHubIsOpened() throws {
    let hub = HubServer(try HubServer.files(golden))
    let folder = TemporaryFolder()
    let missing = try #require(throws: SmeltError.self) { try Model(opening: hub.id) }
    #expect(missing.kind == .file && missing.help?.contains("hf://\(hub.id)") == true)
    setenv("HF_ENDPOINT", hub.server.address(""), 1)
    defer { unsetenv("HF_ENDPOINT") }
    let model = try Model(opening: hub.id, Remote(isHub: true, keep: folder.file("kept")))
    #expect(model.architecture == "qwen3_moe" && model.path != hub.id)
    try model.convert(to: folder.file("r.ingot"), Conversion(scheme: "int8-channel"))
    try Model(opening: golden).convert(to: folder.file("l.ingot"), Conversion(scheme: "int8-channel"))
    let fetched = try model.verify(Model(opening: folder.file("l.ingot")))
    #expect(fetched.faults.isEmpty && fetched.exactWeights.of > 0)
    let kept = folder.file("kept/models--\(hub.id.replacing("/", with: "--"))/snapshots/\(HubServer.commit)")
    #expect(try namesInFolder(kept).contains("config.json"))
    let asked = hub.server.log.count
    #expect(try Model(opening: folder.file("kept/models--\(hub.id.replacing("/", with: "--"))")).layers > 0)
    #expect(hub.server.log.count == asked)
  }

  @Test func calibrationIsPartOfQuantizing() throws {
    let folder = TemporaryFolder()
    let model = try Model(opening: trained)
    let text = Text("\(trained)/calibration.txt", tokenLimit: 512)
    let learned = try model.calibrate(on: text, to: folder.file("s.safetensors"))
    #expect(learned.tokens >= 512)
    let made = try model.quantize(
      to: folder.file("r.ingot"), Conversion(scheme: "int4-group"), calibratedOn: text)
    #expect(made.calibration?.tokens == learned.tokens && made.converted.weights > 0)
  }

  @Test func progressRisesToItsTotal() throws {
    let folder = TemporaryFolder()
    let seen = Seen()
    try Model(opening: golden).convert(
      to: folder.file("r.ingot"), Conversion(scheme: "int8-channel"),
      Run(threads: 1, progress: { seen.add($0) }, message: { seen.add($0) }))
    let stages = seen.progress
    #expect(stages.last.map { $0.done == $0.total } == true && stages.contains { $0.stage == "convert" })
    #expect(zip(stages, stages.dropFirst()).allSatisfy { $0.stage != $1.stage || $0.done <= $1.done })
    #expect(!seen.messages.isEmpty)
  }

  /// The task that works is cancelled while it works: it stops, and leaves nothing under the name.
  @Test func cancellationStopsTheWork() async throws {
    let folder = TemporaryFolder()
    let path = folder.file("r.ingot")
    let model = try Model(opening: trained)
    let (started, start) = AsyncStream<Void>.makeStream()
    let task = Task.detached {
      // The work waits for its cancellation, so that it is under way whatever the machine does.
      try model.convert(
        to: path, Conversion(scheme: "int4-group"),
        Run { _ in
          start.yield()
          while !Task.isCancelled { sched_yield() }
        })
    }
    for await _ in started { break }
    task.cancel()
    let error = try await #require(throws: SmeltError.self) { try await task.value }
    #expect(error.kind == .interrupted)
    #expect(access(path, F_OK) != 0)
  }

  @Test func errorsNameTheirRule() throws {
    let missing = try #require(throws: SmeltError.self) { try Model(opening: "/nowhere/at/all") }
    #expect(missing.kind == .file && missing.code == "SRC_MISSING" && missing.help != nil)
    let model = try Model(opening: golden)
    let unknown = try #require(throws: SmeltError.self) {
      try model.plan(to: "r.ingot", Conversion(scheme: "int9"))
    }
    #expect(unknown.kind == .usage && unknown.description.hasPrefix("error[usage]"))
    let folder = TemporaryFolder()
    try model.convert(to: folder.file("r.ingot"))
    let exists = try #require(throws: SmeltError.self) { try model.convert(to: folder.file("r.ingot")) }
    #expect(exists.kind == .cannotCreate)
    let short = try #require(throws: SmeltError.self) {
      try model.verify(model, on: Text("text.txt", context: 1))
    }
    #expect(short.kind == .usage)
  }
}

/// What a run reported.
private final class Seen: Sendable {
  private let state = Mutex<(progress: [Progress], messages: [String])>(([], []))

  func add(_ progress: Progress) { state.withLock { $0.progress.append(progress) } }
  func add(_ message: String) { state.withLock { $0.messages.append(message) } }

  var progress: [Progress] { state.withLock { $0.progress } }
  var messages: [String] { state.withLock { $0.messages } }
}

private func contents(_ path: String) throws -> [UInt8] { try MappedFile(path: path).bytes.array }
