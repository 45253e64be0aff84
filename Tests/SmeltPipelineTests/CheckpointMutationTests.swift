// Bytes changed at random in everything that describes a checkpoint: the outcome is a refusal or a model that runs,
// never a trap. The seed is fixed; a failure names the mutation.

import SmeltModels
import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct CheckpointMutationTests {
  private static let names = [
    "config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
  ]

  /// Bytes that mean something in JSON, more often than any byte.
  private func byte(_ old: UInt8, _ generator: inout Generator) -> UInt8 {
    switch generator.next() % 4 {
    case 0: old ^ (1 << UInt8(generator.next() % 8))
    case 1: UInt8(truncatingIfNeeded: generator.next())
    default: Array("0123456789-.eE{}[]\",: ntf".utf8)[Int(generator.next() % 25)]
    }
  }

  /// The length of what describes: all of a JSON file, the header of a shard and a little of its data.
  private func reach(_ name: String, _ bytes: [UInt8]) -> Int {
    guard name.hasSuffix(".safetensors") else { return bytes.count }
    let header = bytes[0..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
    return min(bytes.count, 8 + header + 64)
  }

  @Test(arguments: [TinyV4.Layout.plain, .published])
  func mutationsAreRefusedOrRun(_ layout: TinyV4.Layout) throws {
    let folder = TemporaryFolder()
    TinyV4(layout).write(to: folder.path, shards: 2)
    let sound = try Self.names.map {
      try readSmallFile(folder.file($0), limit: 1 << 20, code: .configJSON).array
    }
    var generator = Generator(seed: layout == .plain ? 61 : 62)
    var (refused, ran) = (0, 0)
    for _ in 0..<300 {
      let place = generator.next() % 2 == 0 ? 0 : Int(generator.next() % 4)
      var bytes = sound[place]
      for _ in 0...generator.next() % 3 {
        let index = Int(generator.next() % UInt64(reach(Self.names[place], bytes)))
        switch generator.next() % 6 {
        case 0: bytes.remove(at: index)
        case 1: bytes.insert(byte(bytes[index], &generator), at: index)
        default: bytes[index] = byte(bytes[index], &generator)
        }
      }
      putFile(folder.file(Self.names[place]), bytes)
      if try outcome(folder.path) { ran += 1 } else { refused += 1 }
      putFile(folder.file(Self.names[place]), sound[place])
    }
    // Both ends are reached: most mutations break something, some only change a number.
    #expect(refused > 100 && ran > 10, "\(refused) refused, \(ran) ran")
    #expect(try outcome(folder.path))
  }

  /// Whether the model opens and runs; false when it is refused, by the two kinds of error and no other.
  private func outcome(_ path: String) throws -> Bool {
    let run = RunOptions(parallel: .serial)
    do {
      let model = try Model.open(path)
      _ = inspectionText(try inspect(model))
      _ = try Plan(model, ConvertOptions(recipe: Recipe(Keep()), run: run)).json.text()
      _ = try checkModel(model, run)
      _ = try evaluate(model, Windows([Array(0..<11)], context: 11), run)
      return true
    } catch let error as FormatError {
      #expect(error.file != nil && !error.problem.isEmpty, "\(error)")
      return false
    } catch is RequestError {
      return false
    }
  }

  private func inspectionText(_ inspection: Inspection) -> String { inspection.text(withTensors: true) }
}
