// Files that are kept while they are fetched: whole once every byte came, in whatever pieces, and not before.

import SmeltStorage
import SmeltTestSupport
import Synchronization
import Testing

@testable import SmeltHub

@Suite struct KeptFileTests {
  private final class Source: RangeSource {
    let bytes: [UInt8]
    let asked = Mutex(0)

    init(_ count: Int) { bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 40_503 >> 3) } }

    func fetch(_ range: Range<Int>, into memory: UnsafeMutableRawPointer) throws {
      asked.withLock { $0 += range.count }
      bytes[range].withUnsafeBytes { memory.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }

    func checkUnchanged() throws(FormatError) {}
  }

  /// Pieces of one cell each, the last ones first; then the blob is read.
  @Test(arguments: [1, 32 << 10, (32 << 10) + 1, 1_000_000]) func pieces(count: Int) throws {
    let folder = TemporaryFolder()
    let source = Source(count)
    let hash = SHA256.hex(Bytes(source.bytes))
    let entry = RemoteEntry(
      path: "sub/model.safetensors", count: count, sha256: hash, etag: hash, source: source)
    let cache = HubCache(folder.path, "org/name")
    let cells = (count + FetchedFile.cellBytes - 1) / FetchedFile.cellBytes
    func read(_ file: KeptFile, _ cell: Int) throws {
      let range = cell * FetchedFile.cellBytes..<min(count, (cell + 1) * FetchedFile.cellBytes)
      var bytes = [UInt8](repeating: 0, count: range.count)
      try bytes.withUnsafeMutableBytes { try file.fetch(range, into: $0.baseAddress!) }
      #expect(bytes == Array(source.bytes[range]))
    }
    let blob = joinPath(cache.folder, "blobs/\(hash)")
    do {
      let file = try #require(try KeptFile(entry, in: cache, commit: HubServer.commit))
      for cell in (0..<cells).reversed().dropLast() { try read(file, cell) }
      #expect(pathKind(blob) == .nothing)
      try read(file, 0)
    }
    #expect(try MappedFile(path: blob).bytes.array == source.bytes)
    let name = joinPath(cache.folder, "snapshots/\(HubServer.commit)/sub/model.safetensors")
    #expect(isSymbolicLink(name) && fileByteCount(name) == count)
    #expect(try namesInFolder(joinPath(cache.folder, "blobs")) == [hash])
    let asked = source.asked.withLock { $0 }
    #expect(asked == count)
    let again = try #require(try KeptFile(entry, in: cache, commit: HubServer.commit))
    for cell in 0..<cells { try read(again, cell) }
    #expect(source.asked.withLock { $0 } == asked)
  }
}
