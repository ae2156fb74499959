"""Training data: from files to tokens and loss masks. What a row is called on its way:

stage            type                 made by                what it is
read             sources.Raw          sources.read_rows      a row as it stands in its file, with its number
understood       formats.Document     formats.to_document    a conversation, a text, a labelled text or a pair
  or skipped     rows.Dropped         rows.read              the number of a row that cannot be used, and why
source           rows.Source          rows.read              all documents of one file, folder or data set
compared         shingles.Entry       Source.entries         a document as duplicates and leaks are looked for
leaked           overlap.Leak         overlap.leaks          a row of a suite that training has, and where
suite            gather.Scored        gather.gather          the documents to score, and the leaked ones left out
run              gather.Gathered      gather.gather          everything a run reads, with what refuses it
tokenised        chat.Example         chat.tokenize          tokens and loss mask of a conversation or a text
  by task        items.Labelled/Pair  engine/tasks/items.py  of a labelled text; of a preference pair
ready            prepare.Prepared     engine/tasks/prepare.py  examples and suites, cut to their length

`findings.Finding` is what is wrong with data, said for people: a warning or a refusal.
"""
