"""What may be wrong with a shard: what each kind of fault does to readers, and how to mend it.

What is said of webdataset is said of its release 1.0, and tested against it.
"""

from typing import Literal

from m4.catalogue import Model
from pipelines import groups, shards, tars

Severity = Literal["error", "warning"]

NOT_A_TAR = "not a tar"
NO_END_MARK = "no end mark"
INTERLEAVED = "interleaved members"
REPEATED_KEY = "repeated key"
DOTTED_KEY = "dotted key"
HIDDEN_NAME = "name that webdataset hides"
LINK = "link"
FOLDER = "folder"
OTHER_ENTRY = "neither a file nor a folder"
SEVERAL_IMAGES = "several pictures"
SAME_UID = "uid of another sample"

REPACK = (
    "mkdir new && tar -xf SHARD -C new && (cd new && find . -type f -printf '%P\\n' | "
    "LC_ALL=C sort | tar --format=gnu -cf - -T -) > NEW.tar"
)
JOIN = "mkdir new && tar --ignore-zeros -xf SHARD -C new"
RENAME = r"mkdir new && tar -xf SHARD -C new --transform='s,\.\([^/]*\.[^/.]*\)$,_\1,'"
SET_ASIDE = "annotate sets the sample aside"


class Kind(Model):
    """A kind of fault: what it does to a reader, and how to mend it.

    An error loses samples, or makes them wrong, for annotate or for webdataset.
    """

    name: str
    severity: Severity
    effect: str
    mend: str


def _error(name: str, effect: str, mend: str) -> Kind:
    return Kind(name=name, severity="error", effect=effect, mend=mend)


def _warning(name: str, effect: str, mend: str) -> Kind:
    return Kind(name=name, severity="warning", effect=effect, mend=mend)


_STOPS = "webdataset stops there without an error and loses the rest; annotate reads on behind it"
_FETCH = "fetch or write the shard again; or use the rest, with --max-failures of annotate"
_CAPTION = f"{SET_ASIDE}; webdataset yields it as it is"

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        _error(
            shards.UNREADABLE,
            "no reader gets anything from it",
            "try `cat SHARD > /dev/null`; mend its permissions or its disk, or fetch it again",
        ),
        _error(
            NOT_A_TAR,
            "annotate sets the whole shard aside; webdataset raises an error, or unpacks it where "
            "it is a tar that was compressed",
            "ask `file SHARD` what it is; unpack what was compressed, fetch anything else again",
        ),
        _error(
            shards.EMPTY_SHARD,
            "no reader gets a sample from it, and webdataset says nothing",
            "find out whether its writer failed; write it again, or delete it",
        ),
        _error(
            tars.TRUNCATED,
            "samples are missing; webdataset raises an error, or says nothing where a header was "
            "cut; annotate uses the samples that are whole",
            _FETCH,
        ),
        _error(tars.BAD_HEADER, _STOPS, _FETCH),
        _error(
            tars.MISSING_BYTES,
            "webdataset takes the samples behind for content of the one that was cut, and raises "
            "an error; annotate reads on behind it",
            _FETCH,
        ),
        _error(
            tars.MORE_DATA,
            "tars were joined end to end: webdataset stops at the first end without an error; "
            "annotate reads all of them",
            f"`{JOIN}`, and pack what comes out",
        ),
        _warning(
            NO_END_MARK,
            "nothing, if its writer never writes one; else the shard was cut between two members",
            "compare its size with that of its source",
        ),
        _error(
            shards.NEXT_TO_DAMAGE,
            f"it may have lost a member, so {SET_ASIDE}; webdataset yields what it gets of it",
            "mend the damage beside it",
        ),
        _error(
            INTERLEAVED,
            "the members of a sample are apart: webdataset yields half samples without an error; "
            "annotate sets them aside",
            f"sort the members by name: `{REPACK}`",
        ),
        _error(
            REPEATED_KEY,
            "webdataset raises an error where the copies are neighbours, and else yields each; "
            "annotate uses one and sets the others aside",
            "rename the copies, or leave them out",
        ),
        _error(
            DOTTED_KEY,
            "webdataset cuts a name at its first dot, annotate at its last: 1.5.jpg is for the one "
            "a 5.jpg of the sample 1, for the other a jpg of the sample 1.5",
            f"rename while you unpack, `{RENAME}`, and pack what comes out",
        ),
        _error(
            HIDDEN_NAME,
            "webdataset passes over names like __this__ and all in such a folder, without an error",
            "rename it",
        ),
        _error(
            LINK,
            "what it links to is not there under its name: readers pass it over",
            "pack the files again with `tar --dereference --hard-dereference`",
        ),
        _warning(FOLDER, "none: readers pass it over", "nothing need be done"),
        _warning(
            OTHER_ENTRY,
            "a device, a queue or something unknown: readers pass it over",
            "leave it out when the shard is written again",
        ),
        _error(
            groups.SPARSE_MEMBER,
            f"{SET_ASIDE}, as the tar leaves out the holes of its file; webdataset fills them",
            "pack the files again without `--sparse`",
        ),
        _error(
            groups.INHERITING_MEMBER,
            f"{SET_ASIDE}, as its bytes mean something else when they are copied; webdataset reads "
            "it",
            f"`{REPACK}`",
        ),
        _error(
            shards.KEY_NOT_UTF8,
            f"{SET_ASIDE}, as no table can hold its key; webdataset yields a key that cannot be "
            "written",
            "rename it; after unpacking, `convmv -f latin1 -t utf8 -r --notest new` renames all",
        ),
        _error(
            shards.NO_IMAGE,
            f"{SET_ASIDE}; webdataset yields it without a picture, if it has an extension",
            f"add the picture ({', '.join(groups.IMAGE_EXTENSIONS)}), or leave the rest out",
        ),
        _error(
            shards.NO_CAPTION,
            f"{SET_ASIDE}; webdataset yields it without a txt",
            "add a txt, or a `caption` to its json; or leave the rest out",
        ),
        _error(shards.EMPTY_IMAGE, _CAPTION, "add the picture, or leave the sample out"),
        _error(shards.EMPTY_CAPTION, _CAPTION, "add the caption, or leave the sample out"),
        _error(shards.CAPTION_NOT_UTF8, _CAPTION, "`iconv -f latin1 -t utf8` converts it"),
        _error(shards.LONG_CAPTION, _CAPTION, "it is hardly a caption: shorten it"),
        _error(shards.LARGE_TXT, _CAPTION, "it is hardly a caption: shorten it"),
        _error(shards.LARGE_JSON, _CAPTION, "leave out what nobody needs of it"),
        _error(shards.BAD_JSON, _CAPTION, "`python -m json.tool FILE` says where; or leave it out"),
        _error(shards.NO_OBJECT, _CAPTION, "write an object, {...}, or leave the json out"),
        _error(
            shards.BAD_UID,
            _CAPTION,
            "write 32 digits of 0-9 and a-f; or leave `uid` out, and one is derived",
        ),
        _warning(
            SEVERAL_IMAGES,
            f"annotate uses the first of {', '.join(groups.IMAGE_EXTENSIONS)}; webdataset yields "
            "all of them",
            "leave the others out, unless they are meant",
        ),
        _warning(
            SAME_UID,
            "draws and subsets cannot tell the two samples apart: they get both or none",
            "leave the copy out, or give it a uid of its own",
        ),
    )
}
