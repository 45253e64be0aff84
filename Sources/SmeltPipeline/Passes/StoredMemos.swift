// What layers leave to later ones, for tokens whose activations wait in a file: it waits in a file as well, so that memory does not
// grow with the number of tokens.

import SmeltModels
import SmeltStorage

/// Memos of groups of tokens, in a file.
final class StoredMemos {
  private let folder: String
  private var file: ScratchFile?
  /// Where each group's numbers lie, and how many there is room for and how many there are.
  private var places: [Int: (offset: Int, room: Int, count: Int)] = [:]

  /// Nothing is kept yet, and no file made.
  /// - Parameter folder: where the file will be.
  init(folder: String) { self.folder = folder }

  /// Bytes that lie in the file.
  var byteCount: Int { file?.byteCount ?? 0 }

  /// Takes what layers left about a group out of memory.
  /// - Throws: `RequestError` cannot-create, io.
  func keep(_ memo: LayerMemo, group: Int) throws {
    let numbers = memo.take()
    guard !numbers.isEmpty else {
      places[group]?.count = 0
      return
    }
    let file = try file ?? ScratchFile(in: folder)
    self.file = file
    var place = places[group] ?? (file.byteCount, numbers.count, 0)
    if numbers.count > place.room { place = (file.byteCount, numbers.count, 0) }
    place.count = numbers.count
    try numbers.withUnsafeBytes { try file.write($0, at: place.offset) }
    places[group] = place
  }

  /// Brings back what layers left about a group.
  /// - Throws: `RequestError` io.
  func recall(_ memo: LayerMemo, group: Int) throws {
    guard let file, let place = places[group] else { return memo.restore([]) }
    var numbers = [Int32](repeating: 0, count: place.count)
    try numbers.withUnsafeMutableBytes { try file.read(into: $0, at: place.offset) }
    memo.restore(numbers)
  }
}
