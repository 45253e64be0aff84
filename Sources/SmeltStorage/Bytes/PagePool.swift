// The threads that fetch, what they have to do, and the memory of what nobody holds.

/// Memory and threads of all files that are fetched. What somebody waits for comes before what was asked for ahead.
package final class PagePool: @unchecked Sendable {
  // SAFETY: all variables, and those of the files' blocks, are read and written under `monitor`. A range that is fetched is marked as
  // requested meanwhile: its block is not given back, and nobody reads those cells before they are marked as present.
  /// The pool of the process.
  package static let shared = PagePool()

  /// Threads, and so connections, at most. A server far away answers each request after tens of milliseconds, which only several
  /// at once make up for; more than eight are a burden to it.
  package static let lanes = 8
  /// The most bytes of one request: a fraction of a second for a connection, so that all of them have something to do.
  static let requestBytes = 8 << 20
  /// The most free blocks that are kept: what one weight leaves behind while the next ones arrive.
  private static let spareBlocks = 16
  /// Cells that are asked for of a block at once, at least, where it takes a recycled block: 256 KiB. Weights of a mebibyte end anywhere
  /// in a block.
  private static let sparedCells = 8
  /// Blocks in use beyond which memory is no longer moved: what was moved is a mapping of its own, of which a process may have 65,530.
  private static let movedBlocks = 8192

  private struct Job {
    let file: FetchedFile
    var range: Range<Int>
  }

  private let monitor = Monitor()
  /// Threads wait for it that have nothing to fetch; those that wait for bytes wait for the monitor's own.
  private let work: MonitorCondition
  private let lanes: Int
  private var limit: Int
  /// What somebody waits for, and what was asked for ahead, the next ones first.
  private var needed: [Job] = []
  private var ahead: [Job] = []
  private var threads = 0
  private var idleThreads = 0
  /// Bytes of blocks that nobody holds, those that are asked for ahead included.
  private var idleBytes = 0
  /// The part of these that nobody has held yet.
  private var freshBytes = 0
  /// Blocks that nobody holds in the order in which they were left: those that were held once go first. Entries that a block has
  /// forgotten are passed over.
  private var left = Line()
  private var fresh = Line()
  private var turns = 0
  private let spare = SpareMemory(capacity: PagePool.spareBlocks)
  /// Blocks that have memory.
  private var openBlocks = 0
  private var total = (requests: 0, bytes: 0)

  /// A pool that keeps at most `limit` bytes of what nobody holds, a quarter of it as memory for what comes next.
  package init(lanes: Int = PagePool.lanes, limit: Int = 128 << 20) {
    work = MonitorCondition(monitor)
    self.lanes = lanes
    self.limit = limit
  }

  /// Bytes kept of what nobody holds, what is fetched ahead and free blocks included.
  package var idleLimit: Int {
    get { monitor.locked { limit } }
    set {
      monitor.locked {
        limit = max(PageBlock.bytes, newValue)
        spare.shrink(to: spareLimit)
        trim()
      }
    }
  }

  /// The most free blocks, and the bytes left for blocks that nobody holds.
  private var spareLimit: Int {
    spare.canMove ? min(PagePool.spareBlocks, limit / 4 / PageBlock.bytes) : 0
  }
  private var idleRoom: Int { limit - spareLimit * PageBlock.bytes }

  /// Bytes of what nobody holds, what is fetched ahead included.
  package var idle: Int { monitor.locked { idleBytes } }

  /// Bytes that are fetched ahead at most.
  package var aheadLimit: Int { monitor.locked { idleRoom } }

  /// Bytes of free blocks, kept for what is fetched next.
  package var spareBytes: Int { monitor.locked { spare.count * PageBlock.bytes } }

  /// Ranges and bytes that were fetched.
  package var fetched: (requests: Int, bytes: Int) { monitor.locked { total } }

  // MARK: what files ask for

  func hold(_ file: FetchedFile, _ range: Range<Int>) throws {
    guard !range.isEmpty else { return }
    let failure: (any Error)? = monitor.locked {
      let before = file.failure.number
      var held = 0
      do {
        for number in PageBlock.blocks(range) {
          let cells = PageBlock.cells(range, of: number)
          let block = try self.block(file, number, cells)
          block.evicted.remove(contentsOf: range)
          take(block)
          held += 1
          request(file, number, cells, isNeeded: true)
        }
      } catch {
        leave(file, PageBlock.blocks(range).prefix(held))
        return error
      }
      hasten(file, range)
      while !isPresent(file, range) {
        // What failed is asked for by nobody any more; whoever waits for other bytes goes on waiting.
        if file.failure.number != before, isGivenUp(file, range) {
          leave(file, PageBlock.blocks(range))
          return file.failure.error
        }
        monitor.wait()
      }
      return nil
    }
    if let failure { throw failure }
  }

  func release(_ file: FetchedFile, _ range: Range<Int>) {
    monitor.locked { leave(file, PageBlock.blocks(range)) }
  }

  func willNeed(_ file: FetchedFile, _ range: Range<Int>) {
    guard !range.isEmpty else { return }
    monitor.locked {
      for number in PageBlock.blocks(range) {
        let cells = PageBlock.cells(range, of: number)
        if let block = file.blocks[number] {
          block.evicted.remove(contentsOf: range)
          if cells & ~(block.present | block.requested) == 0 { continue }
        }
        guard freshBytes + cells.nonzeroBitCount * PageBlock.cellBytes <= idleRoom,
          (try? block(file, number, cells)) != nil
        else { break }
        request(file, number, cells, isNeeded: false)
      }
      trim()
    }
  }

  func evict(_ file: FetchedFile, _ range: Range<Int>) {
    monitor.locked {
      for number in PageBlock.blocks(range) {
        guard let block = file.blocks[number] else { continue }
        block.evicted.insert(contentsOf: range)
        if block.isFree, block.isEvicted(number, of: file.count) { drop(file, number, block) }
      }
    }
  }

  func provide(_ file: FetchedFile, _ head: [UInt8]) {
    let size = head.count >= file.count ? file.count : head.count / PageBlock.cellBytes * PageBlock.cellBytes
    guard size > 0 else { return }
    monitor.locked {
      for number in PageBlock.blocks(0..<size) {
        let cells = PageBlock.cells(0..<size, of: number)
        guard let block = try? block(file, number, cells), block.holds == 0,
          block.present | block.requested == 0
        else { continue }
        let start = number * PageBlock.bytes
        let part = head[start..<min(size, start + PageBlock.bytes)]
        // SAFETY: the block is open, and nobody has seen it yet.
        part.withUnsafeBytes { file.address(start).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        block.present = cells
        count(block, 1)
        settle(file, number, block)
      }
      trim()
    }
  }

  // MARK: blocks

  /// A block, of which some cells will be asked for first.
  private func block(_ file: FetchedFile, _ number: Int, _ cells: UInt64) throws -> PageBlock {
    if let block = file.blocks[number] { return block }
    // What is spare is a whole block, and a header or a small weight may be all that is asked for of this one.
    let takesSpare = cells.nonzeroBitCount >= PagePool.sparedCells && openBlocks < PagePool.movedBlocks
    try file.open(number, takesSpare ? spare : nil)
    openBlocks += 1
    let block = PageBlock()
    file.blocks[number] = block
    return block
  }

  /// Somebody holds a block.
  private func take(_ block: PageBlock) {
    if block.holds == 0 { count(block, -1) }
    block.holds += 1
    if !block.wasHeld { block.listing = 0 }
    block.wasHeld = true
  }

  /// Nobody holds blocks for a range any more.
  private func leave(_ file: FetchedFile, _ numbers: some Sequence<Int>) {
    for number in numbers {
      guard let block = file.blocks[number] else { continue }
      block.holds -= 1
      guard block.holds == 0 else { continue }
      count(block, 1)
      if block.isFree { settle(file, number, block) }
    }
    trim()
  }

  /// Adds a block that nobody holds to what is counted, or takes it away.
  private func count(_ block: PageBlock, _ sign: Int) {
    idleBytes += sign * block.byteCount
    if !block.wasHeld { freshBytes += sign * block.byteCount }
  }

  /// A block that nobody holds and nobody fills waits for its turn to go, or goes.
  private func settle(_ file: FetchedFile, _ number: Int, _ block: PageBlock) {
    if block.present == 0 || block.wasHeld && block.isEvicted(number, of: file.count) {
      return drop(file, number, block)
    }
    turns += 1
    block.turn = turns
    guard block.listing == 0 else { return }
    block.listing = turns
    list(file, number, block)
  }

  private func list(_ file: FetchedFile, _ number: Int, _ block: PageBlock) {
    let entry = Line.Entry(file: file, number: number, listing: block.listing)
    if block.wasHeld { left.append(entry) } else { fresh.append(entry) }
  }

  private func drop(_ file: FetchedFile, _ number: Int, _ block: PageBlock) {
    count(block, -1)
    file.blocks[number] = nil
    openBlocks -= 1
    file.close(number, spare, limit: block.present.nonzeroBitCount >= 32 ? spareLimit : 0)
  }

  private func trim() {
    while idleBytes > idleRoom {
      guard let entry = left.removeFirst() ?? fresh.removeFirst() else { return }
      guard let block = entry.file.blocks[entry.number], block.listing == entry.listing else { continue }
      block.listing = 0
      guard block.isFree else { continue }
      if block.turn == entry.listing {
        drop(entry.file, entry.number, block)
      } else {
        // Held again since: it goes behind those that were not.
        block.listing = block.turn
        list(entry.file, entry.number, block)
      }
    }
  }

  private func isPresent(_ file: FetchedFile, _ range: Range<Int>) -> Bool {
    PageBlock.blocks(range).allSatisfy { number in
      let cells = PageBlock.cells(range, of: number)
      return (file.blocks[number]?.present ?? 0) & cells == cells
    }
  }

  /// Whether bytes of a range are neither there nor asked for.
  private func isGivenUp(_ file: FetchedFile, _ range: Range<Int>) -> Bool {
    PageBlock.blocks(range).contains { number in
      guard let block = file.blocks[number] else { return true }
      return PageBlock.cells(range, of: number) & ~(block.present | block.requested) != 0
    }
  }

  // MARK: jobs

  /// Asks for the cells of a block that are not there.
  private func request(_ file: FetchedFile, _ number: Int, _ cells: UInt64, isNeeded: Bool) {
    guard let block = file.blocks[number] else { return }
    let missing = cells & ~(block.present | block.requested)
    guard missing != 0 else { return }
    if block.holds == 0 { count(block, -1) }
    block.requested |= missing
    if block.holds == 0 { count(block, 1) }
    for run in PageBlock.runs(missing) {
      let start = number * PageBlock.bytes
      add(
        Job(
          file: file,
          range: start + run.lowerBound
            * PageBlock.cellBytes..<min(
              file.count, start + run.upperBound * PageBlock.cellBytes)), isNeeded)
    }
  }

  private func add(_ job: Job, _ isNeeded: Bool) {
    var list = isNeeded ? needed : ahead
    (needed, ahead) = isNeeded ? ([], ahead) : (needed, [])
    if let last = list.last, last.file === job.file, last.range.upperBound == job.range.lowerBound,
      last.range.count + job.range.count <= PagePool.requestBytes
    {
      list[list.count - 1].range = last.range.lowerBound..<job.range.upperBound
    } else {
      list.append(job)
    }
    if isNeeded { needed = list } else { ahead = list }
    if idleThreads == 0, threads < lanes { startThread() } else { work.wakeOne() }
  }

  /// What was asked for ahead and is waited for now comes first.
  private func hasten(_ file: FetchedFile, _ range: Range<Int>) {
    guard !ahead.isEmpty else { return }
    let now = ahead.filter { $0.file === file && $0.range.overlaps(range) }
    guard !now.isEmpty else { return }
    ahead.removeAll { $0.file === file && $0.range.overlaps(range) }
    needed += now
  }

  private func startThread() {
    if startDetachedThread({ [self] in serve() }) { threads += 1 }
  }

  private func serve() {
    while true {
      let job = monitor.locked { next() }
      var failure: (any Error)?
      do {
        try job.file.source.fetch(job.range, into: job.file.address(job.range.lowerBound))
      } catch {
        failure = error
      }
      monitor.locked {
        finish(job, failure)
        monitor.wakeAll()
      }
    }
  }

  private func next() -> Job {
    while true {
      if !needed.isEmpty { return needed.removeFirst() }
      if !ahead.isEmpty { return ahead.removeFirst() }
      idleThreads += 1
      work.wait()
      idleThreads -= 1
    }
  }

  private func finish(_ job: Job, _ failure: (any Error)?) {
    if let failure {
      job.file.failure = (job.file.failure.number + 1, failure)
    } else {
      total = (total.requests + 1, total.bytes + job.range.count)
    }
    for number in PageBlock.blocks(job.range) {
      guard let block = job.file.blocks[number] else { continue }
      let cells = PageBlock.cells(job.range, of: number)
      if block.holds == 0 { count(block, -1) }
      block.requested &= ~cells
      if failure == nil { block.present |= cells }
      guard block.holds == 0 else { continue }
      count(block, 1)
      if block.isFree { settle(job.file, number, block) }
    }
    trim()
  }
}

/// Blocks in the order in which they were left.
private struct Line {
  struct Entry {
    let file: FetchedFile
    let number: Int
    /// What the block says while this entry counts.
    let listing: Int
  }

  private var entries: [Entry] = []
  private var first = 0

  mutating func append(_ entry: Entry) { entries.append(entry) }

  mutating func removeFirst() -> Entry? {
    guard first < entries.count else {
      entries = []
      first = 0
      return nil
    }
    defer {
      first += 1
      if first > 1024, first > entries.count / 2 {
        entries.removeFirst(first)
        first = 0
      }
    }
    return entries[first]
  }
}
