"""The contract's messages with their packed numbers as raw bytes, for numpy to read and write as a whole.

On the wire a packed repeated field is a length and its bytes, just as a `bytes` field is. So a twin of the contract, in
which each repeated number is declared `bytes`, reads and writes the very same messages; a thousand candidates then cost
one copy instead of a thousand Python numbers. The declared type is `repeated bytes`, for a packed field may come in
several pieces.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from serving.rpc.pb import ranking_pb2 as pb

_PACKAGE = "exfm.ranking.packed"
_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKED = (_FIELD.TYPE_SFIXED64, _FIELD.TYPE_DOUBLE, _FIELD.TYPE_FLOAT)


def _twins() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    public, file.package, file.name = file.package, _PACKAGE, "packed.proto"
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(f".{public}.", f".{_PACKAGE}.")
            elif field.label == _FIELD.LABEL_REPEATED and field.type in _PACKED:
                field.type = _FIELD.TYPE_BYTES
    del file.service[:]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {message.name: pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}") for message in file.message_type}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


_CLASSES = _twins()
RankRequest: Any = _CLASSES["RankRequest"]
RankResponse: Any = _CLASSES["RankResponse"]
RankStreamResponse: Any = _CLASSES["RankStreamResponse"]
TaskScores: Any = _CLASSES["TaskScores"]


def read_request(payload: bytes) -> Any:
    """The `RankRequest` in `payload`, its `ad_ids` and `bids` as raw little-endian bytes in pieces.

    Raises:
        DecodeError: there is none.
    """
    message: Message = RankRequest.FromString(payload)
    if len(UnknownFieldSet(message)):
        # Fields of a later contract, or numbers one by one instead of packed: protobuf itself packs them.
        message = RankRequest.FromString(pb.RankRequest.FromString(payload).SerializeToString())
    return message
