// The activations of all tokens on their way through the layers: in memory while they fit, else in a file, group by group
// of windows, or piece by piece of a long one.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// The residual streams of all tokens between two layers.
struct TokenStream: ~Copyable {
  /// The windows, in groups that are run one after the other; the pieces of a window follow each other.
  let groups: [TokenBatch]
  /// For each group, the tokens before it.
  private let firsts: [Int]
  private let columns: Int
  private var held = Matrix(rows: 0, columns: 0)
  private var scratch: ScratchFile?
  private let memos: StoredMemos

  /// The embeddings of some groups. Of one group they stay in memory; of several each lies in a file of `folder`.
  init(
    _ groups: [TokenBatch], _ family: some ModelFamily, _ weights: some Weights, folder: String
  ) throws {
    try self.init(groups, family, weights, folder: folder, inMemory: groups.count <= 1)
  }

  /// The embeddings of some groups.
  /// - Parameter inMemory: whether they stay in memory; at most one group can.
  init(
    _ groups: [TokenBatch], _ family: some ModelFamily, _ weights: some Weights, folder: String,
    inMemory: Bool
  ) throws {
    self.groups = groups.map { $0.separated() }
    firsts = groups.reduce(into: [0]) { $0.append($0.last! + $1.count) }
    columns = family.dimensions.hidden * family.dimensions.streams
    memos = StoredMemos(folder: folder)
    guard groups.count > (inMemory ? 1 : 0) else {
      if let batch = groups.first { held = try family.embed(batch, weights) }
      return
    }
    let file = try ScratchFile(in: folder)
    scratch = file
    for place in groups.indices {
      try Interrupt.check()
      let x = try family.embed(groups[place], weights)
      try x.values.withUnsafeBytes { try file.write($0, at: offset(place)) }
    }
  }

  /// The activations of some groups as another run left them.
  /// - Parameter saved: float32 of all tokens in order.
  /// - Throws: `RESUME_MISMATCH` when they are of another number of tokens; `RequestError` io.
  init(_ groups: [TokenBatch], _ family: some ModelFamily, folder: String, saved: MappedFile) throws {
    self.groups = groups.map { $0.separated() }
    firsts = groups.reduce(into: [0]) { $0.append($0.last! + $1.count) }
    columns = family.dimensions.hidden * family.dimensions.streams
    memos = StoredMemos(folder: folder)
    let tokens = groups.reduce(0) { $0 + $1.count }
    guard saved.count == tokens * columns * 4 else {
      throw FormatError(
        .resumeMismatch, file: saved.path,
        "has \(saved.count) bytes, expected \(tokens) tokens of \(columns) numbers")
    }
    let saved = saved.bytes
    if groups.count > 1 {
      let file = try ScratchFile(in: folder)
      try saved.withUnsafeBytes { try file.write($0, at: 0) }
      scratch = file
    } else {
      held = Matrix(rows: tokens, columns: columns) { values in
        saved.withUnsafeBytes {
          // SAFETY: `saved` has `tokens × columns` floats, checked above, and `values` room for as many
          UnsafeMutableRawBufferPointer(start: values, count: $0.count).copyMemory(from: $0)
        }
      }
    }
    saved.evict()
  }

  /// Bytes that lie in the file.
  var spilledBytes: Int { (scratch?.byteCount ?? 0) + memos.byteCount }

  private func offset(_ place: Int) -> Int { firsts[place] * columns * 4 }

  /// Calls `body` with the activations of each group, the number of tokens before it, and the pass: for pieces of a window it has the
  /// state that earlier pieces have left, so that `body` runs one layer. What it makes of the activations is kept.
  mutating func update(_ pass: Pass, _ body: (TokenBatch, Int, inout Matrix, Pass) throws -> Void) throws {
    var states = PieceStates()
    for place in groups.indices {
      try Interrupt.check()
      let pass = states.pass(pass, for: groups[place])
      if let scratch {
        var x = try self[place]
        try memos.recall(groups[place].memo, group: place)
        try body(groups[place], firsts[place], &x, pass)
        try memos.keep(groups[place].memo, group: place)
        try x.values.withUnsafeBytes { try scratch.write($0, at: offset(place)) }
      } else {
        try body(groups[place], 0, &held, pass)
      }
    }
  }

  /// Calls `body` with the activations of each group, the number of tokens before it, and the pass as `update` gives it. What a layer
  /// leaves to later ones in `body` is not kept where the activations lie in a file; in memory the next update replaces it.
  func forEach(_ pass: Pass, _ body: (TokenBatch, Int, Matrix, Pass) throws -> Void) throws {
    var states = PieceStates()
    for place in groups.indices {
      try Interrupt.check()
      if scratch != nil { try memos.recall(groups[place].memo, group: place) }
      try body(groups[place], firsts[place], try self[place], states.pass(pass, for: groups[place]))
      if scratch != nil { groups[place].memo.restore([]) }
    }
  }

  /// The activations of one group.
  subscript(place: Int) -> Matrix {
    get throws {
      guard let scratch else { return held }
      return try Matrix(rows: groups[place].count, columns: columns) {
        try scratch.read(
          // SAFETY: the matrix has room for `count × columns` floats
          into: UnsafeMutableRawBufferPointer(start: $0, count: groups[place].count * columns * 4),
          at: offset(place))
      }
    }
  }
}

/// What the pieces of a window share on a walk over them, one after another.
struct PieceStates {
  private var state: DecodingState?

  /// The pass for a batch: with the state of its window where it is a piece, else as it is.
  mutating func pass(_ pass: Pass, for batch: TokenBatch) -> Pass {
    guard batch.isPiece else {
      state = nil
      return pass
    }
    if batch.firstPosition == 0 { state = DecodingState(piecesOf: batch.count + batch.following.count) }
    precondition(state != nil, "the pieces of a window begin with its first")
    var pass = pass
    pass.state = state
    return pass
  }
}
