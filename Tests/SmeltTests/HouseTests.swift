// The order of the house: modules know only what lies below them, files of a module do not use each other in circles, and the
// top of a module can be taken in at a glance.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct HouseTests {
  private static let sources = repositoryRoot + "/Sources"
  private static let modules = ((try? namesInFolder(sources)) ?? []).filter {
    pathKind("\(sources)/\($0)") == .directory
  }

  @Test func thereAreModules() { #expect(Self.modules.contains("SmeltPipeline")) }

  /// Files whose types use each other all the way round can only be understood, and changed, together.
  @Test(arguments: modules) func noCircleIsLongerThanFiveFiles(module: String) throws {
    let files = try SwiftFile.all(in: "\(Self.sources)/\(module)")
    for circle in circles(files) where circle.count > 5 {
      Issue.record("\(module): \(circle.count) files in a circle: \(circle.sorted().joined(separator: ", "))")
    }
  }

  @Test(arguments: modules) func aModuleHasEightFilesAtItsTopAtMost(module: String) throws {
    let top = try namesInFolder("\(Self.sources)/\(module)").filter { $0.hasSuffix(".swift") }
    #expect(top.count <= 8, "\(module): \(top.joined(separator: ", "))")
  }

  /// A file that declares nothing that others name is found by nobody; two files that use each other are a circle.
  @Test func circlesAreFound() {
    let files = [
      SwiftFile("a", "struct A { let b: B }"), SwiftFile("b", "enum B {}\nfunc make() -> C { C() }"),
      SwiftFile("c", "/* A */ struct C { let text = \"A\" } // A\n  struct Inner {}"),
      SwiftFile("d", "extension C { func go() { make() } }"), SwiftFile("e", "let x = value.make()"),
    ]
    #expect(circles(files).allSatisfy { $0.count == 1 })
    let back = [SwiftFile("a", "struct A { let b: B }"), SwiftFile("b", "struct B { let a: [A] }")]
    #expect(circles(back).map(\.count) == [2])
  }

  /// Groups of files each of which reaches every other one, by Tarjan's algorithm.
  private func circles(_ files: [SwiftFile]) -> [[String]] {
    var homes: [Substring: Set<Int>] = [:]
    for (place, file) in files.enumerated() {
      for name in file.declared { homes[name, default: []].insert(place) }
    }
    // A name that several files declare is an extension of a private helper: it says nothing.
    let uses = files.enumerated().map { place, file in
      Set(file.used.compactMap { homes[$0].flatMap { $0.count == 1 ? $0.first : nil } }).subtracting([place])
    }
    var (index, low, stack, found) = ([Int: Int](), [Int: Int](), [Int](), [[String]]())
    func visit(_ place: Int) {
      (index[place], low[place]) = (index.count, index.count)
      stack.append(place)
      for next in uses[place] {
        if index[next] == nil {
          visit(next)
          low[place] = min(low[place] ?? 0, low[next] ?? 0)
        } else if stack.contains(next) {
          low[place] = min(low[place] ?? 0, index[next] ?? 0)
        }
      }
      guard low[place] == index[place], let start = stack.firstIndex(of: place) else { return }
      found.append(stack[start...].map { files[$0].name })
      stack.removeSubrange(start...)
    }
    for place in files.indices where index[place] == nil { visit(place) }
    return found
  }
}

/// What a file declares for others and what it names, as far as words tell.
private struct SwiftFile {
  let name: String
  /// Types, and functions outside types, that are not private.
  let declared: Set<Substring>
  /// Words with a capital, and names that are called without a dot before them.
  let used: Set<Substring>

  static func all(in folder: String, below: String = "") throws -> [SwiftFile] {
    try namesInFolder("\(folder)/\(below)").flatMap { name -> [SwiftFile] in
      let relative = below.isEmpty ? name : "\(below)/\(name)"
      let path = "\(folder)/\(relative)"
      if pathKind(path) == .directory { return try all(in: folder, below: relative) }
      guard name.hasSuffix(".swift") else { return [] }
      return [SwiftFile(relative, String(decoding: try MappedFile(path: path).bytes.array, as: UTF8.self))]
    }
  }

  init(_ name: String, _ text: String) {
    self.name = name
    var (declared, used) = (Set<Substring>(), Set<Substring>())
    let code = SwiftFile.code(text)
    for line in code.split(separator: "\n") where line.first != " " {
      let words = line.split { !($0.isLetter || $0.isNumber || $0 == "_") }
      guard !words.contains("private"), !words.contains("fileprivate"),
        let keyword = words.firstIndex(where: {
          ["struct", "class", "enum", "protocol", "actor", "typealias", "func"].contains($0)
        }), !words[..<keyword].contains("extension"), keyword + 1 < words.count
      else { continue }
      declared.insert(words[keyword + 1])
    }
    var place = code.startIndex
    var before: Character = " "
    while place < code.endIndex {
      guard code[place].isLetter || code[place] == "_" else {
        before = code[place]
        place = code.index(after: place)
        continue
      }
      let end = code[place...].firstIndex { !($0.isLetter || $0.isNumber || $0 == "_") } ?? code.endIndex
      let word = code[place..<end]
      if word.first?.isUppercase == true || before != "." && end < code.endIndex && code[end] == "(" {
        used.insert(word)
      }
      before = " "
      place = end
    }
    (self.declared, self.used) = (declared, used)
  }

  /// A file's text without comments and string literals.
  private static func code(_ text: String) -> String {
    var code: [UInt8] = []
    let bytes = Array(text.utf8)
    var place = 0
    func starts(_ word: StaticString) -> Bool {
      word.withUTF8Buffer {
        place + $0.count <= bytes.count && bytes[place..<place + $0.count].elementsEqual($0)
      }
    }
    while place < bytes.count {
      if starts("//") {
        while place < bytes.count, bytes[place] != UInt8(ascii: "\n") { place += 1 }
      } else if starts("/*") {
        while place < bytes.count, !starts("*/") { place += 1 }
        place += 2
      } else if starts("\"\"\"") {
        place += 3
        while place < bytes.count, !starts("\"\"\"") { place += 1 }
        place += 3
      } else if bytes[place] == UInt8(ascii: "\"") {
        place += 1
        while place < bytes.count, bytes[place] != UInt8(ascii: "\""), bytes[place] != UInt8(ascii: "\n") {
          place += bytes[place] == UInt8(ascii: "\\") ? 2 : 1
        }
        place += 1
      } else {
        code.append(bytes[place])
        place += 1
      }
    }
    return String(decoding: code, as: UTF8.self)
  }
}
