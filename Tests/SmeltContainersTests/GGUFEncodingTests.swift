// Our encoders against ggml's own blocks of the same numbers: Fixtures/gguf/all-types.gguf holds the source, its
// importances, and each type with and without them.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct GGUFEncodingTests {
  static let kinds = GGUFBlock.Kind.allCases.filter { GGUFBlock($0).isEncodable }
  /// Types whose scales are a choice: ours is at least as good. Of the others every byte is ggml's.
  static let searched: Set<GGUFBlock.Kind> = [.q2_k, .q3_k, .q4_k, .q5_k, .q6_k, .iq4_nl, .iq4_xs]
  /// And these where importances say what is better.
  static let searchedWithImportances: Set<GGUFBlock.Kind> = [.q4_0, .q4_1, .q5_0, .q5_1]

  let file: GGUFFile
  let source: [Float]
  let importances: [Float]

  init() throws {
    file = try GGUFFile(path: fixture("gguf/all-types.gguf"))
    source = try Self.floats(#require(file.tensor("src.f32")))
    importances = try Self.floats(#require(file.tensor("src.imp")))
  }

  private static func floats(_ tensor: GGUFTensor) throws -> [Float] {
    try Weight(
      name: tensor.name, shape: tensor.shape, encoding: Plain.f32,
      parts: [Part(.values, dtype: .f32, shape: tensor.shape, bytes: tensor.bytes)]
    ).decode()
  }

  private func decoded(_ kind: GGUFBlock.Kind, _ bytes: [UInt8]) throws -> [Float] {
    try Weight(
      name: "w", shape: [8, 512], encoding: GGUFBlock(kind),
      parts: [Part(.values, dtype: .u8, shape: [8, bytes.count / 8], bytes: Bytes(bytes))]
    ).decode()
  }

  private func encoded(_ kind: GGUFBlock.Kind, _ weights: [Float]?) throws -> [UInt8] {
    let block = GGUFBlock(kind)
    let rowBytes = 512 / block.elements * block.bytes
    var bytes = [UInt8](repeating: 0, count: 8 * rowBytes)
    for row in 0..<8 {
      let outcome = source.withUnsafeBufferPointer { source in
        bytes.withUnsafeMutableBufferPointer { bytes in
          block.encode(
            source.baseAddress! + row * 512, count: 512, weights: weights,
            into: bytes.baseAddress! + row * rowBytes)
        }
      }
      guard case .stored = outcome else {
        Issue.record("\(kind) row \(row): \(outcome)")
        continue
      }
    }
    return bytes
  }

  /// Σ w (x − y)² of each row.
  private func errors(_ y: [Float], _ weights: [Float]?) -> [Double] {
    (0..<8).map { row in
      (0..<512).reduce(0) { sum, column in
        let d = Double(source[row * 512 + column]) - Double(y[row * 512 + column])
        return sum + Double(weights?[column] ?? 1) * d * d
      }
    }
  }

  @Test(arguments: kinds, [false, true])
  func bytesOrErrorsAreGGMLs(_ kind: GGUFBlock.Kind, weighted: Bool) throws {
    let name = GGUFBlock(kind).name.replacing(".gguf", with: "").uppercased() + (weighted ? ".imx" : "")
    let golden = try #require(file.tensor(name)).bytes.array
    let found = try encoded(kind, weighted ? importances : nil)
    #expect(found.count == golden.count)
    guard Self.searched.contains(kind) || weighted && Self.searchedWithImportances.contains(kind) else {
      let wrong = found.indices.first { found[$0] != golden[$0] }
      #expect(wrong == nil, "byte \(wrong ?? 0)")
      return
    }
    let ours = errors(try decoded(kind, found), weighted ? importances : nil)
    let theirs = errors(try decoded(kind, golden), weighted ? importances : nil)
    // Relative to the row's own size, so that no row speaks for all.
    let sizes = errors([Float](repeating: 0, count: 8 * 512), weighted ? importances : nil)
    let relative = zip(ours, sizes).reduce(0) { $0 + $1.0 / $1.1 }
    let expected = zip(theirs, sizes).reduce(0) { $0 + $1.0 / $1.1 }
    #expect(relative <= expected, "\(relative / expected) of ggml's error")
    #expect(ours.reduce(0, +) <= theirs.reduce(0, +))
  }
}
