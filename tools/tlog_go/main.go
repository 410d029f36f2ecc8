// SPDX-License-Identifier: GPL-3.0-or-later

// Command tlog_go checks a published Novate log with nothing of Novate's: the note with
// golang.org/x/mod/sumdb/note, the tree with golang.org/x/mod/sumdb/tlog.
//
//	tlog_go VERIFIER_KEY DIRECTORY [PROOFS.json]
//
// It opens the checkpoint, builds the whole tree from the entry bundles (tlog.StoredHashes), compares its
// root (tlog.TreeHash) and every published tile, and then checks the proofs in PROOFS.json with
// tlog.CheckRecord and tlog.CheckTree: each must be accepted or refused as the file says. A proof that must
// be accepted is also compared with the one that tlog.ProveRecord or tlog.ProveTree makes.
//
// tlog.TileHashReader is not used: the version in Debian 12 accepts tiles that are not the tree's.
//
// Build without a network, from the Debian packages golang-go and golang-golang-x-mod-dev:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o tlog_go tools/tlog_go/main.go
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// A proof of inclusion: entry Index is in the tree of Size with Root.
type record struct {
	Accept bool     `json:"accept"`
	Index  int64    `json:"index"`
	Size   int64    `json:"size"`
	Leaf   []byte   `json:"leaf"`
	Root   []byte   `json:"root"`
	Path   [][]byte `json:"path"`
}

// A proof of consistency: the tree of Size with Root begins with that of OldSize with OldRoot.
type growth struct {
	Accept  bool     `json:"accept"`
	OldSize int64    `json:"old_size"`
	OldRoot []byte   `json:"old_root"`
	Size    int64    `json:"size"`
	Root    []byte   `json:"root"`
	Path    [][]byte `json:"path"`
}

type proofs struct {
	Records []record `json:"records"`
	Growths []growth `json:"growths"`
}

func main() {
	if len(os.Args) != 3 && len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: tlog_go VERIFIER_KEY DIRECTORY [PROOFS.json]")
		os.Exit(2)
	}
	told, err := run(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "tlog_go: REFUSED:", err)
		os.Exit(1)
	}
	fmt.Println(told)
}

func run(key, dir string, proofFiles []string) (string, error) {
	size, root, err := openCheckpoint(key, dir)
	if err != nil {
		return "", err
	}
	tree, err := buildTree(dir, size)
	if err != nil {
		return "", err
	}
	found := tlog.Hash(sha256.Sum256(nil)) // RFC 9162's root of nothing; older versions of tlog say all zeros
	if size > 0 {
		if found, err = tlog.TreeHash(size, tree); err != nil {
			return "", err
		}
	}
	if found != root {
		return "", fmt.Errorf("the entries lead to root %v, the checkpoint says %v", found, root)
	}
	tiles, err := compareTiles(dir, size, tree)
	if err != nil {
		return "", err
	}
	checked := 0
	for _, name := range proofFiles {
		n, err := checkProofs(name, tree)
		if err != nil {
			return "", err
		}
		checked += n
	}
	return fmt.Sprintf("ok entries=%d tiles=%d proofs=%d root=%v", size, tiles, checked, root), nil
}

// openCheckpoint returns the size and root of the signed checkpoint.
func openCheckpoint(key, dir string) (int64, tlog.Hash, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	opened, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return 0, tlog.Hash{}, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] != verifier.Name() {
		return 0, tlog.Hash{}, fmt.Errorf("checkpoint: %q is not one of %s", opened.Text, verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return 0, tlog.Hash{}, fmt.Errorf("checkpoint: size %q", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return 0, tlog.Hash{}, fmt.Errorf("checkpoint: root: %w", err)
	}
	return size, root, nil
}

// A memory holds the hashes of a tree in the order in which tlog stores them.
type memory []tlog.Hash

func (m memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(m)) {
			return nil, fmt.Errorf("hash %d is not stored", index)
		}
		out[i] = m[index]
	}
	return out, nil
}

// buildTree hashes every entry of every bundle.
func buildTree(dir string, size int64) (memory, error) {
	var tree memory
	for start := int64(0); start < size; start += tileWidth {
		width := size - start
		if width > tileWidth {
			width = tileWidth
		}
		name := place(dir, tlog.Tile{H: tileHeight, L: -1, N: start / tileWidth, W: int(width)})
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for n := start; n < start+width; n++ {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				return nil, fmt.Errorf("%s ends inside entry %d", name, n)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			hashes, err := tlog.StoredHashes(n, data[2:end], tree)
			if err != nil {
				return nil, err
			}
			tree = append(tree, hashes...)
			data = data[end:]
		}
		if len(data) != 0 {
			return nil, fmt.Errorf("%s holds more than %d entries", name, width)
		}
	}
	return tree, nil
}

// place is where a tile lies in the C2SP layout, which leaves the height out and has another name for data.
func place(dir string, tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	if rest, ok := cut(path, "data/"); ok {
		path = "entries/" + rest
	}
	return filepath.Join(dir, "tile", filepath.FromSlash(path))
}

func cut(text, prefix string) (string, bool) {
	return strings.TrimPrefix(text, prefix), strings.HasPrefix(text, prefix)
}

// compareTiles reads every tile that a log of this size serves. (tlog.NewTiles is of no use here: older
// versions list every width a partial tile ever had.)
func compareTiles(dir string, size int64, tree memory) (int, error) {
	count := 0
	for level, nodes := 0, size; nodes > 0; level, nodes = level+1, nodes>>tileHeight {
		for start := int64(0); start < nodes; start += tileWidth {
			width := nodes - start
			if width > tileWidth {
				width = tileWidth
			}
			tile := tlog.Tile{H: tileHeight, L: level, N: start / tileWidth, W: int(width)}
			want, err := tlog.ReadTileData(tile, tree)
			if err != nil {
				return 0, err
			}
			got, err := os.ReadFile(place(dir, tile))
			if err != nil {
				return 0, err
			}
			if !bytes.Equal(got, want) {
				return 0, fmt.Errorf("%s is not the tile of this tree", place(dir, tile))
			}
			count++
		}
	}
	return count, nil
}

func hashOf(data []byte) (h tlog.Hash, err error) {
	if len(data) != tlog.HashSize {
		return h, fmt.Errorf("a hash of %d bytes", len(data))
	}
	copy(h[:], data)
	return h, nil
}

func hashesOf(list [][]byte) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(list))
	for i, data := range list {
		h, err := hashOf(data)
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// checkProofs checks every proof in a file against what the file says of it.
func checkProofs(name string, tree memory) (int, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	var given proofs
	if err := json.Unmarshal(data, &given); err != nil {
		return 0, err
	}
	for i, r := range given.Records {
		err := checkRecord(r, tree)
		if (err == nil) != r.Accept {
			return 0, fmt.Errorf("record %d (entry %d of %d): accept=%v, but: %v", i, r.Index, r.Size, r.Accept, err)
		}
	}
	for i, g := range given.Growths {
		err := checkGrowth(g, tree)
		if (err == nil) != g.Accept {
			return 0, fmt.Errorf("growth %d (%d to %d): accept=%v, but: %v", i, g.OldSize, g.Size, g.Accept, err)
		}
	}
	return len(given.Records) + len(given.Growths), nil
}

func checkRecord(r record, tree memory) error {
	leaf, err := hashOf(r.Leaf)
	if err != nil {
		return err
	}
	root, err := hashOf(r.Root)
	if err != nil {
		return err
	}
	path, err := hashesOf(r.Path)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(tlog.RecordProof(path), r.Size, root, r.Index, leaf); err != nil {
		return err
	}
	own, err := tlog.ProveRecord(r.Size, r.Index, tree)
	if err != nil {
		return err
	}
	return same(path, own)
}

func checkGrowth(g growth, tree memory) error {
	oldRoot, err := hashOf(g.OldRoot)
	if err != nil {
		return err
	}
	root, err := hashOf(g.Root)
	if err != nil {
		return err
	}
	path, err := hashesOf(g.Path)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(tlog.TreeProof(path), g.Size, root, g.OldSize, oldRoot); err != nil {
		return err
	}
	own, err := tlog.ProveTree(g.Size, g.OldSize, tree)
	if err != nil {
		return err
	}
	return same(path, own)
}

func same(path, own []tlog.Hash) error {
	if len(path) != len(own) {
		return fmt.Errorf("the proof has %d hashes, Go's has %d", len(path), len(own))
	}
	for i := range path {
		if path[i] != own[i] {
			return fmt.Errorf("hash %d is %s, Go's is %s", i, show(path[i]), show(own[i]))
		}
	}
	return nil
}

func show(h tlog.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }
