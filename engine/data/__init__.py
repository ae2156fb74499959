"""Training data: from files to tokens and loss masks. The types of a row, stage by stage:

stage            type                 made by                what it is
read             readers.RawRow       sources.read           a row as it stands in its file, with its number
  keys noted     fields.Fields        rows.read              the same, remembering which keys are read
converted        formats.Document     formats.to_document    a conversation, a text, a labelled text or a pair
  or skipped     rows.DroppedRow      rows.read              the number of a row that is not used, and why
source           rows.Source          rows.read              all documents of one file, folder or data set
compared         shingles.Entry       Source.entries         a document as it is compared with others
leaked           overlap.Leak         overlap.leaks          a row of a suite that training has, and where
suite            gather.SuiteData     gather.gather          the documents to score, and the leaked rows
run              gather.RunData       gather.gather          everything a run reads, and reasons to refuse it
rendered         answers.LearnedText  answers.learned_texts  a conversation as its template writes it, what is learned
tokenised        chat.Example         chat.tokenize          tokens and loss mask of a conversation or a text
  by task        items.Labelled/Pair  engine/tasks/items.py  of a labelled text; of a preference pair
ready            prepare.Prepared     engine/tasks/prepare.py  examples and suites, cut to their length

A `findings.Finding` is a problem with data, in words for people: a warning or a refusal.
"""
