-- What Quarto adds to pandoc's markdown and the preview needs: numbered figures, tables and
-- equations, references to them, and callouts. Runs before citeproc, so that `@fig-x` is resolved
-- here and `@kingma2015adam` there.

local stringify = pandoc.utils.stringify
local names = { fig = "Figure", tbl = "Table", eq = "Equation", sec = "Section" }
local counts = { fig = 0, tbl = 0, eq = 0 }
local labels = {}

-- The kind of a label such as "fig-funnel", or nil.
local function kind_of(id)
  local kind = id:match("^(%a+)%-")
  return names[kind] and kind
end

-- Give the label the next number of its kind; returns how it is called in the text.
local function number(id, kind)
  counts[kind] = counts[kind] + 1
  labels[id] = names[kind] .. "\u{a0}" .. counts[kind]
  return labels[id]
end

local function captioned(label, blocks)
  local inlines = pandoc.utils.blocks_to_inlines(blocks)
  local head = { pandoc.Span({ pandoc.Str(label .. ".") }, { class = "caption-label" }), pandoc.Space() }
  return { pandoc.Plain(head .. inlines) }
end

-- ::: {#fig-x} or ::: {#tbl-x}: the last paragraph is the caption.
local function float(div, kind)
  local label, blocks, caption = number(div.identifier, kind), div.content, {}
  if blocks[1] and blocks[1].t == "Figure" then
    blocks[1] = pandoc.Plain(pandoc.utils.blocks_to_inlines(blocks[1].content))
  end
  if #blocks > 1 and blocks[#blocks].t == "Para" then
    caption = { blocks:remove(#blocks) }
  end
  local long = captioned(label, caption)
  for _, block in ipairs(blocks) do
    if kind == "tbl" and block.t == "Table" then
      block.caption.long = long
      return div, false
    end
  end
  local attr = pandoc.Attr(div.identifier, div.classes)
  return pandoc.Figure(blocks, { long = long }, attr), false
end

local function callout(div, kind)
  local title, body = div.attributes["title"], div.content
  if not title and body[1] and body[1].t == "Header" then
    title = stringify(body:remove(1))
  end
  title = title or kind:gsub("^%l", string.upper)
  local class = ' class="' .. table.concat({ "callout", table.unpack(div.classes) }, " ") .. '"'
  local open, close = "<div" .. class .. '><p class="callout-title">' .. title .. "</p>", "</div>"
  if div.attributes["collapse"] then
    local shown = div.attributes["collapse"] == "false" and " open" or ""
    open = "<details" .. class .. shown .. '><summary class="callout-title">' .. title .. "</summary>"
    close = "</details>"
  end
  body:insert(1, pandoc.RawBlock("html", open))
  body:insert(pandoc.RawBlock("html", close))
  return body
end

local function equation(inlines)
  for i = #inlines, 1, -1 do
    local id = inlines[i] and inlines[i].t == "Str" and inlines[i].text:match("^{#(eq%-[^}]+)}$")
    local j = i - 1
    if id and inlines[j] and inlines[j].t ~= "Math" then
      j = j - 1 -- a space or a line's end between formula and label
    end
    if id and inlines[j] and inlines[j].t == "Math" then
      number(id, "eq")
      local mark = pandoc.Span({ pandoc.Str("(" .. counts.eq .. ")") }, { class = "equation-number" })
      inlines[j] = pandoc.Span({ inlines[j], mark }, { id = id, class = "equation" })
      for k = i, j + 1, -1 do
        inlines:remove(k)
      end
    end
  end
  return inlines
end

local find_labels = {
  traverse = "topdown",
  Div = function(div)
    local kind = kind_of(div.identifier)
    if kind == "fig" or kind == "tbl" then
      return float(div, kind)
    end
  end,
  Figure = function(figure)
    if kind_of(figure.identifier) == "fig" then
      local label = number(figure.identifier, "fig")
      figure.caption.long = captioned(label, figure.caption.long)
      return figure, false
    end
  end,
  Table = function(block)
    if kind_of(block.identifier) == "tbl" then
      block.caption.long = captioned(number(block.identifier, "tbl"), block.caption.long)
      return block, false
    end
  end,
  Header = function(header)
    if kind_of(header.identifier) == "sec" then
      labels[header.identifier] = names.sec .. " \u{201c}" .. stringify(header) .. "\u{201d}"
    end
  end,
  Inlines = equation,
}

local unresolved, cited = {}, false

local resolve = {
  Cite = function(cite)
    local links = pandoc.List()
    for _, citation in ipairs(cite.citations) do
      if not kind_of(citation.id) then
        cited = true
        return nil
      end
      local label = labels[citation.id]
      if not label then
        table.insert(unresolved, "@" .. citation.id)
      else
        if citation.mode == "SuppressAuthor" then
          label = label:match("\u{a0}(.*)$") or label
        end
        links:extend({ pandoc.Link(label, "#" .. citation.id), pandoc.Str(", ") })
      end
    end
    links:remove(#links)
    return links
  end,
  -- The text for those who do not see the picture is `fig-alt`, as in Quarto.
  Image = function(image)
    local alt = image.attributes["fig-alt"]
    if alt then
      image.attributes["fig-alt"] = nil
      image.caption = { pandoc.Str(alt) }
      return image
    end
  end,
}

local dress = {
  Div = function(div)
    for _, class in ipairs(div.classes) do
      local kind = class:match("^callout%-(%a+)$")
      if kind then
        return callout(div, kind)
      end
    end
  end,
  -- A table wider than the page scrolls in its own box, below its caption.
  Table = function(block)
    local caption = block.caption.long
    block.caption = { long = {} }
    local box = pandoc.Div({ block }, { class = "table-scroll" })
    if #caption == 0 then
      return box
    end
    local head = pandoc.Plain(pandoc.utils.blocks_to_inlines(caption))
    local open, close = "<figure>\n<figcaption>", "</figure>"
    return { pandoc.RawBlock("html", open), head, pandoc.RawBlock("html", "</figcaption>"), box,
             pandoc.RawBlock("html", close) }
  end,
}

function Pandoc(doc)
  doc = doc:walk(find_labels):walk(resolve)
  if cited then -- citeproc puts the literature here, before the note about the run
    local last = doc.blocks[#doc.blocks]
    local at = #doc.blocks + (last.t == "Div" and last.classes:includes("run-stamp") and 0 or 1)
    doc.blocks:insert(at, pandoc.Div({}, { id = "refs" }))
    doc.blocks:insert(at, pandoc.Header(2, "References", { id = "references" }))
  end
  if #unresolved > 0 then
    error("unresolved references: " .. table.concat(unresolved, ", ") .. "\n", 0)
  end
  return doc:walk(dress)
end
