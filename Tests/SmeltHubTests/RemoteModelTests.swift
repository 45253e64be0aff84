// Whole models that are fetched: the same weights as from the folder, whatever happens on the way.

import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTestSupport
import Synchronization
import Testing

@testable import SmeltHub

@Suite(.serialized) struct RemoteModelTests {
  /// Faults that the server makes while it is told to: every third answer with a range.
  private final class Faults: Sendable {
    private let state = Mutex<(isOn: Bool, ranges: Int, made: Int)>((false, 0, 0))
    static let ways = [
      "cut", "hang up", "500", "429", "403", "short", "shifted", "whole", "none", "total", "empty", "408",
    ]

    var isOn: Bool {
      get { state.withLock { $0.isOn } }
      set { state.withLock { $0.isOn = newValue } }
    }
    var made: Int { state.withLock { $0.made } }

    func change(_ request: FileServer.Request, _ reply: FileServer.Reply) -> FileServer.Reply {
      guard reply.status == 206 else { return reply }
      let way: String? = state.withLock { state in
        guard state.isOn else { return nil }
        state.ranges += 1
        guard state.ranges.isMultiple(of: 3) else { return nil }
        state.made += 1
        return Faults.ways[state.made % Faults.ways.count]
      }
      guard let way else { return reply }
      // Only the other host signs addresses for a while.
      if way == "403", !request.path.hasPrefix("/cdn/") { return reply }
      return FetchTests.broken(reply, way)
    }
  }

  private func convert(_ path: String, _ result: String) throws -> [UInt8] {
    let options = ConvertOptions(
      recipe: Recipe(Keep()), target: IngotResult(.fast), run: RunOptions(parallel: Parallel(threads: 2)))
    _ = try SmeltPipeline.convert(try Model.open(path), to: result, options)
    return try MappedFile(path: result).bytes.array
  }

  @Test(arguments: ["deepseek_v4", "gpt_oss-mxfp4", "qwen3_moe"]) func theSameWeights(name: String) throws {
    let folder = fixture("models/\(name)")
    let hub = HubServer(try HubServer.files(folder))
    let path = try hub.mount()
    let local = try Model.open(folder)
    let remote = try Model.open(path)
    #expect(
      remote.containerName == "safetensors" && remote.files.map(\.byteCount) == local.files.map(\.byteCount))
    let difference = try diff(local, remote, RunOptions())
    #expect(difference.isEqual, "\(difference.text)")
  }

  @Test func faultsChangeNoByte() throws {
    let faults = Faults()
    let hub = HubServer(try HubServer.files(fixture("models/deepseek_v4"))) { faults.change($0, $1) }
    let results = TemporaryFolder()
    let path = try hub.mount { $0.tries = 50 }
    let clean = try convert(path, results.file("clean.ingot"))
    faults.isOn = true
    // What stays in memory is not asked for again: a small pool forgets.
    let limit = PagePool.shared.idleLimit
    defer { PagePool.shared.idleLimit = limit }
    for round in 0..<120 where faults.made < 60 {
      PagePool.shared.idleLimit = 0
      let found = try convert(path, results.file("\(round).ingot"))
      #expect(found == clean, "round \(round), after \(faults.made) faults")
    }
    #expect(faults.made >= 30)
  }
}
