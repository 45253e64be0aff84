// How a conversion is cut into the work of many machines: units, which depend on headers, recipe and options alone, and shares of
// them. Formats/cluster.md.

import SmeltModels
import SmeltQuantization
package import SmeltStorage
import SmeltTensors

/// What one file of a cluster's work holds: a run of slabs, which becomes a file of the result or a piece of one.
package struct ResultUnit: Sendable {
  /// Its number, from 0.
  package let number: Int
  /// The file that it is written to, in the folder of parts.
  package let file: String
  /// Its slabs, by their places in the plan.
  package let slabs: Range<Int>
  /// The file of the result that it belongs to, from 0.
  package let resultFile: Int
  /// Bytes of the source that it reads.
  package let bytesIn: Int
  /// Bytes that it writes, before compression.
  package let bytesOut: Int

  /// For machines.
  func json(_ plan: Plan, _ resultFile: String) -> JSON {
    var names: [String] = []
    for slab in plan.slabs[slabs] {
      for place in [slab.weight, slab.other].compactMap({ $0 }) {
        let name = plan.weights[place].stored.spec.name.description
        if names.last != name { names.append(name) }
      }
    }
    return [
      "unit": JSON(number), "file": JSON(file), "result_file": JSON(resultFile), "bytes_in": JSON(bytesIn),
      "bytes_out": JSON(bytesOut), "weights": JSON(names.map { JSON($0) }),
    ]
  }
}

/// The units of a conversion.
package struct UnitPlan: Sendable {
  /// All of them, in the plan's order.
  package let units: [ResultUnit]
  /// The files of the result.
  package let files: [String]
  /// XXH64 of what the headers of the result's files say, where they are known.
  let layout: UInt64?

  /// Bytes of a unit that is not a file of the result, unless the user says otherwise: a thousandth, but worth a file.
  static func usualBytes(_ plan: Plan) -> Int { max(16 << 20, ceilDivide(plan.bytesOut, 1024)) }

  /// Units of runs of slabs.
  /// - Parameters:
  ///   - runs: the slabs of each, and the file of the result that they go into.
  ///   - name: the name of a unit's file.
  init(
    _ plan: Plan, _ runs: [(slabs: Range<Int>, file: Int)], files: [String], layout: UInt64?,
    name: (_ unit: Int, _ file: Int) -> String
  ) {
    self.files = files
    self.layout = layout
    var seen: Set<Int> = []
    units = runs.enumerated().map { number, run in
      var bytesIn = 0
      for slab in plan.slabs[run.slabs] {
        for place in [slab.weight, slab.other].compactMap({ $0 }) where seen.insert(place).inserted {
          bytesIn += plan.weights[place].stored.byteCount
        }
      }
      return ResultUnit(
        number: number, file: name(number, run.file), slabs: run.slabs, resultFile: run.file,
        bytesIn: bytesIn, bytesOut: plan.slabs[run.slabs].reduce(0) { $0 + $1.byteCount })
    }
  }

  /// One unit for each file of a layout.
  init(_ plan: Plan, _ layout: FileLayout) {
    let runs = layout.names.indices.map { file in
      let first = layout.files.firstIndex { $0 >= file } ?? plan.slabs.count
      return (first..<(layout.files[first...].firstIndex { $0 > file } ?? plan.slabs.count), file)
    }
    self.init(plan, runs, files: layout.names, layout: layout.hash) { _, file in layout.names[file] }
  }

  /// Runs of slabs of about `limit` bytes, cut only where `canCut` says so of the slab behind the cut.
  static func runs(_ plan: Plan, limit: Int, canCut: (Int) -> Bool) -> [(slabs: Range<Int>, file: Int)] {
    var runs: [(Range<Int>, Int)] = []
    var (start, bytes) = (0, 0)
    for (place, slab) in plan.slabs.enumerated() {
      if place > start, bytes + slab.byteCount > limit, canCut(place) {
        runs.append((start..<place, 0))
        (start, bytes) = (place, 0)
      }
      bytes += slab.byteCount
    }
    return runs + [(start..<plan.slabs.count, 0)]
  }

  /// For machines.
  /// - Parameter share: whose units are listed; nil: all.
  func json(_ plan: Plan, _ share: Share?) -> JSON {
    JSON((share?.units(units) ?? units).map { $0.json(plan, files[$0.resultFile]) })
  }

  /// What a person reads of a share.
  package func text(_ share: Share) -> String {
    let own = share.units(units)
    let bytes = own.reduce((0, 0)) { ($0.0 + $1.bytesIn, $0.1 + $1.bytesOut) }
    return
      "share \(share.text): \(own.count) of \(units.count) units, \(byteText(bytes.0)) in, at most \(byteText(bytes.1)) out"
  }
}

extension Plan {
  /// The contract's JSON with the units that machines can share.
  /// - Parameter share: whose units are listed; nil: all.
  package func json(_ units: UnitPlan, _ share: Share?) -> JSON {
    json.adding("units", units.json(self, share))
  }
}

/// One of so many shares of a conversion, as a task of a cluster takes it.
package struct Share: Sendable, Hashable {
  /// Which one, from 1.
  package let number: Int
  /// Of how many.
  package let count: Int

  /// Refuses what a share has no use for.
  /// - Throws: `RequestError` usage.
  package static func requireNoResume(_ resume: Bool) throws {
    guard resume else { return }
    throw RequestError(
      .usage, "a share needs no --resume: what it finds done is not done again", help: "leave --resume away")
  }

  /// A share.
  /// - Throws: `RequestError` usage for a number that is not 1 to `count`.
  package init(_ number: Int, of count: Int) throws {
    guard count >= 1, count <= 1_000_000, (1...count).contains(number) else {
      throw RequestError(
        .usage, "there is no share \(number) of \(count)", help: "shares are 1/n to n/n")
    }
    (self.number, self.count) = (number, count)
  }

  /// `3/8`; `auto` for the task of an array that the environment tells of, `auto/8` for one of 8.
  ///
  /// Slurm: SLURM_ARRAY_TASK_ID counted from SLURM_ARRAY_TASK_MIN by SLURM_ARRAY_TASK_STEP, of SLURM_ARRAY_TASK_COUNT. Kubernetes:
  /// JOB_COMPLETION_INDEX, from 0, of JOB_COMPLETIONS.
  /// - Throws: `RequestError` usage.
  package init(_ text: String, environment: (String) -> String?) throws {
    func refusal(_ problem: String) -> RequestError {
      RequestError(
        .usage, "--shard \(excerpt(text)): \(problem)", help: "give --shard 3/8, or auto in a job array")
    }
    let words = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    let count = words.count == 2 ? Int(words[1]) : nil
    guard words.count == 1 && words[0] == "auto" || words.count == 2 && count != nil else {
      throw refusal("expected NUMBER/COUNT or auto")
    }
    if words[0] != "auto" {
      guard let number = Int(words[0]), let count else { throw refusal("expected NUMBER/COUNT or auto") }
      try self.init(number, of: count)
      return
    }
    func number(_ name: String) throws -> Int? {
      guard let value = environment(name), !value.isEmpty else { return nil }
      guard let number = Int(value), number.magnitude <= UInt(Int32.max) else {
        throw refusal("\(name) is '\(excerpt(value))', not a number of tasks")
      }
      return number
    }
    let index: Int
    let declared: Int?
    if let task = try number("SLURM_ARRAY_TASK_ID") {
      index =
        (task - (try number("SLURM_ARRAY_TASK_MIN") ?? 0)) / max(1, try number("SLURM_ARRAY_TASK_STEP") ?? 1)
      declared = try number("SLURM_ARRAY_TASK_COUNT")
    } else if let task = try number("JOB_COMPLETION_INDEX") {
      index = task
      declared = try number("JOB_COMPLETIONS")
    } else {
      throw refusal("neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set")
    }
    guard let of = count ?? declared else {
      throw refusal("how many tasks there are is not known: give auto/COUNT")
    }
    try self.init(index + 1, of: of)
  }

  /// The units of the share: a run of them, of about as many bytes as every other share's.
  package func units(_ all: [ResultUnit]) -> [ResultUnit] {
    // Reading counts as writing does; a unit without bytes goes along with its neighbours.
    let weights = all.map { Double($0.bytesIn) + Double($0.bytesOut) + 1 }
    let total = weights.reduce(0, +)
    var before = 0.0
    return zip(all, weights).compactMap { unit, weight in
      let middle = (before + weight / 2) / total
      before += weight
      return min(count - 1, Int(middle * Double(count))) == number - 1 ? unit : nil
    }
  }

  /// The parts of the share where all parts are alike: part p of P is in share ⌊(p + ½) · n ÷ P⌋ + 1.
  func parts(_ parts: Int) -> [Int] {
    (0..<parts).filter { (2 * $0 + 1) * count / (2 * parts) == number - 1 }
  }

  /// `3/8`.
  package var text: String { "\(number)/\(count)" }
}
