// A picture with two axes.

/// Points and lines over two axes.
struct Chart {
  /// An axis: its range, and what it counts.
  struct Axis {
    /// The range.
    var scale: Scale
    /// What it counts, units included.
    var title: String
  }

  private let title: String
  private let description: String
  private let x: Axis
  private let y: Axis
  private let plotHeight: Double
  /// Upright lines that mark a value of x, each with its own line of text above the plot.
  private var rules: [(value: Double, label: String)] = []
  private var bands: [(low: Double, high: Double)] = []
  private var lines: [(points: [(x: Double, y: Double)], series: Int)] = []
  /// Ranges of y at a value of x.
  private var intervals: [(x: Double, low: Double, high: Double)] = []
  private var points: [Point] = []
  private var legend: [Drawing.Series] = []

  /// A mark.
  private struct Point {
    var x: Double
    var y: Double
    var series: Int
    var title: String
    var label: String?
  }

  private static let (left, right, bottom) = (70.0, 24.0, 50.0)

  init(_ title: String, _ description: String, x: Axis, y: Axis, height: Double = 240) {
    (self.title, self.description, self.x, self.y) = (title, description, x, y)
    plotHeight = height
  }

  /// Names a series in the legend.
  mutating func name(_ series: Int, _ name: String, _ form: Drawing.Series.Form = .mark) {
    legend.append(Drawing.Series(name: name, series: series, form: form))
  }

  /// A line through points.
  mutating func line(_ points: [(x: Double, y: Double)], series: Int) { lines.append((points, series)) }

  /// A point; `title` is for a pointer, `label` stands beside it.
  mutating func point(_ x: Double, _ y: Double, series: Int, title: String, label: String? = nil) {
    points.append(Point(x: x, y: y, series: series, title: title, label: label))
  }

  /// Says between which values of y a point at `x` lies.
  mutating func interval(_ x: Double, _ low: Double, _ high: Double) { intervals.append((x, low, high)) }

  /// Marks a value of x.
  mutating func rule(_ value: Double, _ label: String) {
    if value.isFinite { rules.append((value, label)) }
  }

  /// Marks a range of x.
  mutating func band(_ low: Double, _ high: Double) { bands.append((low, high)) }

  private var top: Double { 30 + (legend.isEmpty ? 0 : 20) + 18 * Double(rules.count) }
  private var plotWidth: Double { Drawing.width - Chart.left - Chart.right }

  private func px(_ value: Double) -> Double { Chart.left + plotWidth * x.scale.place(value) }
  private func py(_ value: Double) -> Double { top + plotHeight * (1 - y.scale.place(value)) }

  /// The picture.
  var svg: String {
    let end = top + plotHeight
    var out = Drawing.text(8, 16, y.title, "soft")
    if !legend.isEmpty { out += Drawing.legend(legend, x: Chart.left, y: 36) }
    for tick in y.scale.ticks {
      let place = py(tick.value)
      out += Drawing.line(Chart.left, place, Drawing.width - Chart.right, place, "grid")
      out += Drawing.text(Chart.left - 8, place + 4.5, tick.label, "soft end")
    }
    for tick in x.scale.ticks {
      let place = px(tick.value)
      out +=
        Drawing.line(place, end, place, end + 5, "axis")
        + Drawing.text(place, end + 20, tick.label, "soft middle")
    }
    out += Drawing.line(Chart.left, end, Drawing.width - Chart.right, end, "axis")
    out += Drawing.text(Chart.left + plotWidth / 2, end + 42, x.title, "soft middle")
    for band in bands {
      out += Drawing.box(px(band.low), top, max(px(band.high) - px(band.low), 1), plotHeight, "band")
    }
    for rule in placedRules {
      let level = top - 8 - 18 * Double(rule.level)
      out += Drawing.line(rule.x, level - 11, rule.x, end, "l2")
      out += Drawing.text(rule.x + (rule.isLeft ? -6 : 6), level, rule.label, rule.isLeft ? "end" : "")
    }
    for interval in intervals {
      let (x, low, high) = (px(interval.x), py(interval.low), py(interval.high))
      out += Drawing.line(x, low, x, high, "axis")
      for y in [low, high] { out += Drawing.line(x - 4, y, x + 4, y, "axis") }
    }
    for line in lines {
      out += Drawing.path(line.points.map { (x: px($0.x), y: py($0.y)) }, "l\(line.series)")
    }
    for point in points {
      out += Drawing.mark(px(point.x), py(point.y), series: point.series, title: point.title)
    }
    return Drawing.picture(title, description, height: end + Chart.bottom, out + labels)
  }

  /// A rule in the picture: `level` 0 is the line of text next to the plot.
  private typealias PlacedRule = (x: Double, level: Int, isLeft: Bool, label: String)

  /// The rules, each with its text to the right or the left of it, so that no text is cut or crossed by another rule where that can be had.
  private var placedRules: [PlacedRule] {
    let sorted = rules.sorted { $0.value < $1.value }
    // The rules of small values have their text to the right, the others to the left, the outer ones above: either side may be on top.
    let choices = (0...sorted.count).reversed().flatMap { right in
      [true, false].map { rightIsOnTop in
        sorted.enumerated().map { number, rule -> PlacedRule in
          let others = sorted.count - right
          let level =
            number < right
            ? right - 1 - number + (rightIsOnTop ? others : 0)
            : number - right + (rightIsOnTop ? 0 : right)
          return (px(rule.value), level, number >= right, rule.label)
        }
      }
    }
    func clashes(_ rules: [PlacedRule]) -> Int {
      rules.reduce(0) { sum, rule in
        let width = Drawing.textWidth(rule.label) + 8
        let text = rule.isLeft ? rule.x - width..<rule.x : rule.x..<rule.x + width
        let isCut = text.lowerBound < 0 || text.upperBound > Drawing.width
        return sum + (isCut ? 10 : 0)
          + rules.count { $0.level > rule.level && text.contains($0.x) && $0.x != rule.x }
      }
    }
    return choices.min { clashes($0) < clashes($1) } ?? []
  }

  /// Where lines pass, as small frames along them.
  private var linePlaces: [Frame] {
    lines.flatMap { line in
      zip(line.points, line.points.dropFirst()).flatMap { a, b in
        let (x, y) = (px(a.x), py(a.y))
        let (width, height) = (px(b.x) - x, py(b.y) - y)
        let steps = max(1, Int((width * width + height * height).squareRoot() / 6))
        return (0...steps).map { step in
          let share = Double(step) / Double(steps)
          return Frame(x: x + share * width - 1.5, y: y + share * height - 1.5, width: 3, height: 3)
        }
      }
    } + intervals.map { Frame(x: px($0.x) - 4, y: py($0.high), width: 8, height: py($0.low) - py($0.high)) }
  }

  /// The names of points, each where it meets no other, no point and no line.
  private var labels: String {
    let named = points.filter { $0.label != nil }
    guard !named.isEmpty else { return "" }
    var taken = points.map { Frame(x: px($0.x) - 6, y: py($0.y) - 6, width: 12, height: 12) } + linePlaces
    let area = Frame(x: 0, y: top - 14, width: Drawing.width, height: plotHeight + 14)
    var out = ""
    for point in named {
      let label = point.label ?? ""
      let (x, y, width) = (px(point.x), py(point.y), Drawing.textWidth(label))
      // To the right, the left, above, below, then further off with a line to the point.
      var places = [(9.0, -7.0), (-9 - width, -7.0), (-width / 2, -23.0), (-width / 2, 9.0)]
      for far in [24.0, 40, 58, 78, 100] {
        places += [(12, -far - 7), (12, far - 7), (-12 - width, -far - 7), (-12 - width, far - 7)]
      }
      let frames = places.map { Frame(x: x + $0.0, y: y + $0.1, width: width, height: 15) }
      guard
        let number = frames.firstIndex(where: { frame in
          area.holds(frame) && !taken.contains { $0.meets(frame) }
        })
      else { continue }
      let frame = frames[number]
      taken.append(frame)
      if number > 3 {
        let near = frame.x > x ? frame.x : frame.x + width
        out += Drawing.line(x, y, near, frame.y + 8, "axis")
      }
      out += Drawing.text(frame.x, frame.y + 12, label)
    }
    return out
  }

  /// A rectangle that something covers.
  private struct Frame {
    var x: Double
    var y: Double
    var width: Double
    var height: Double

    func meets(_ other: Frame) -> Bool {
      x < other.x + other.width && other.x < x + width && y < other.y + other.height && other.y < y + height
    }

    func holds(_ other: Frame) -> Bool {
      other.x >= x && other.y >= y && other.x + other.width <= x + width
        && other.y + other.height <= y + height
    }
  }
}
