// The activations of all tokens on their way through the layers: in memory while they fit, else in a file, group by group
// of windows.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// The residual streams of all tokens between two layers.
struct TokenStream: ~Copyable {
  /// The windows, in groups that are run one after the other.
  let groups: [TokenBatch]
  private let columns: Int
  private var held = Matrix(rows: 0, columns: 0)
  private var scratch: ScratchFile?

  /// The embeddings of some groups. Of one group they stay in memory; of several each lies in a file of `folder`.
  init(_ groups: [TokenBatch], _ family: some ModelFamily, _ weights: some Weights, folder: String) throws {
    self.groups = groups
    columns = family.dimensions.hidden * family.dimensions.streams
    guard groups.count > 1 else {
      held = try family.embed(groups[0], weights)
      return
    }
    let file = try ScratchFile(in: folder)
    scratch = file
    var offset = 0
    for batch in groups {
      try Interrupt.check()
      let x = try family.embed(batch, weights)
      try x.values.withUnsafeBytes { try file.write($0, at: offset) }
      offset += byteCount(batch)
    }
  }

  /// Bytes that lie in the file.
  var spilledBytes: Int { scratch?.byteCount ?? 0 }

  private func byteCount(_ batch: TokenBatch) -> Int { batch.count * columns * 4 }

  /// Calls `body` with the activations of each group and the number of tokens before it; what it makes of them is kept.
  mutating func update(_ body: (TokenBatch, Int, inout Matrix) throws -> Void) throws {
    var first = 0
    for batch in groups {
      try Interrupt.check()
      if let scratch {
        var x = try read(batch, first, scratch)
        try body(batch, first, &x)
        try x.values.withUnsafeBytes { try scratch.write($0, at: first * columns * 4) }
      } else {
        try body(batch, 0, &held)
      }
      first += batch.count
    }
  }

  /// Calls `body` with the activations of each group and the number of tokens before it.
  func forEach(_ body: (TokenBatch, Int, Matrix) throws -> Void) throws {
    var first = 0
    for batch in groups {
      try Interrupt.check()
      try body(batch, first, try scratch.map { try read(batch, first, $0) } ?? held)
      first += batch.count
    }
  }

  private func read(_ batch: TokenBatch, _ first: Int, _ file: ScratchFile) throws -> Matrix {
    try Matrix(rows: batch.count, columns: columns) {
      try file.read(
        into: UnsafeMutableRawBufferPointer(start: $0, count: byteCount(batch)), at: first * columns * 4)
    }
  }
}
