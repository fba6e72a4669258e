from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_LIVE: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_SHADOW: _ClassVar[Priority]

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_FULL: _ClassVar[Tier]
    TIER_TRIMMED: _ClassVar[Tier]
    TIER_LITE: _ClassVar[Tier]
    TIER_PRIOR: _ClassVar[Tier]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_LIVE: Priority
PRIORITY_NORMAL: Priority
PRIORITY_SHADOW: Priority
TIER_UNSPECIFIED: Tier
TIER_FULL: Tier
TIER_TRIMMED: Tier
TIER_LITE: Tier
TIER_PRIOR: Tier

class FeatureBlock(_message.Message):
    __slots__ = ("ids", "numbers")
    IDS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    ids: bytes
    numbers: bytes
    def __init__(self, ids: _Optional[bytes] = ..., numbers: _Optional[bytes] = ...) -> None: ...

class RankRequest(_message.Message):
    __slots__ = ("request_id", "vertical", "user", "context", "ads", "ad_ids", "bids", "priority", "number", "timeout_us")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERTICAL_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ADS_FIELD_NUMBER: _ClassVar[int]
    AD_IDS_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_US_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    vertical: str
    user: FeatureBlock
    context: FeatureBlock
    ads: FeatureBlock
    ad_ids: _containers.RepeatedScalarFieldContainer[int]
    bids: _containers.RepeatedScalarFieldContainer[float]
    priority: Priority
    number: int
    timeout_us: int
    def __init__(self, request_id: _Optional[str] = ..., vertical: _Optional[str] = ..., user: _Optional[_Union[FeatureBlock, _Mapping]] = ..., context: _Optional[_Union[FeatureBlock, _Mapping]] = ..., ads: _Optional[_Union[FeatureBlock, _Mapping]] = ..., ad_ids: _Optional[_Iterable[int]] = ..., bids: _Optional[_Iterable[float]] = ..., priority: _Optional[_Union[Priority, str]] = ..., number: _Optional[int] = ..., timeout_us: _Optional[int] = ...) -> None: ...

class TaskScores(_message.Message):
    __slots__ = ("task", "probabilities")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    task: str
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, task: _Optional[str] = ..., probabilities: _Optional[_Iterable[float]] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Stage(_message.Message):
    __slots__ = ("name", "duration_us")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    name: str
    duration_us: int
    def __init__(self, name: _Optional[str] = ..., duration_us: _Optional[int] = ...) -> None: ...

class Ledger(_message.Message):
    __slots__ = ("budget_us", "spent_us", "stages")
    BUDGET_US_FIELD_NUMBER: _ClassVar[int]
    SPENT_US_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    budget_us: int
    spent_us: int
    stages: _containers.RepeatedCompositeFieldContainer[Stage]
    def __init__(self, budget_us: _Optional[int] = ..., spent_us: _Optional[int] = ..., stages: _Optional[_Iterable[_Union[Stage, _Mapping]]] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("request_id", "ad_ids", "expected_values", "scores", "tier", "tier_reason", "model", "ledger", "unknown_values")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AD_IDS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VALUES_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    TIER_REASON_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_VALUES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    ad_ids: _containers.RepeatedScalarFieldContainer[int]
    expected_values: _containers.RepeatedScalarFieldContainer[float]
    scores: _containers.RepeatedCompositeFieldContainer[TaskScores]
    tier: Tier
    tier_reason: str
    model: ModelVersion
    ledger: Ledger
    unknown_values: int
    def __init__(self, request_id: _Optional[str] = ..., ad_ids: _Optional[_Iterable[int]] = ..., expected_values: _Optional[_Iterable[float]] = ..., scores: _Optional[_Iterable[_Union[TaskScores, _Mapping]]] = ..., tier: _Optional[_Union[Tier, str]] = ..., tier_reason: _Optional[str] = ..., model: _Optional[_Union[ModelVersion, _Mapping]] = ..., ledger: _Optional[_Union[Ledger, _Mapping]] = ..., unknown_values: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message", "retry_pushback_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_PUSHBACK_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    retry_pushback_ms: int
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., retry_pushback_ms: _Optional[int] = ...) -> None: ...

class RankStreamResponse(_message.Message):
    __slots__ = ("request_id", "ranking", "refusal", "number")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    ranking: RankResponse
    refusal: Refusal
    number: int
    def __init__(self, request_id: _Optional[str] = ..., ranking: _Optional[_Union[RankResponse, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., number: _Optional[int] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("request_id", "ad_id", "task", "value", "time_ms", "vertical")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AD_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    VERTICAL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    ad_id: int
    task: str
    value: float
    time_ms: int
    vertical: str
    def __init__(self, request_id: _Optional[str] = ..., ad_id: _Optional[int] = ..., task: _Optional[str] = ..., value: _Optional[float] = ..., time_ms: _Optional[int] = ..., vertical: _Optional[str] = ...) -> None: ...

class RecordOutcomesRequest(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class RecordOutcomesResponse(_message.Message):
    __slots__ = ("accepted",)
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    def __init__(self, accepted: _Optional[int] = ...) -> None: ...

class DescribeVerticalRequest(_message.Message):
    __slots__ = ("vertical",)
    VERTICAL_FIELD_NUMBER: _ClassVar[int]
    vertical: str
    def __init__(self, vertical: _Optional[str] = ...) -> None: ...

class FeatureColumn(_message.Message):
    __slots__ = ("name", "kind", "vocabulary_size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    vocabulary_size: int
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., vocabulary_size: _Optional[int] = ...) -> None: ...

class BlockLayout(_message.Message):
    __slots__ = ("side", "kind", "columns", "row_bytes")
    SIDE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROW_BYTES_FIELD_NUMBER: _ClassVar[int]
    side: str
    kind: str
    columns: _containers.RepeatedCompositeFieldContainer[FeatureColumn]
    row_bytes: int
    def __init__(self, side: _Optional[str] = ..., kind: _Optional[str] = ..., columns: _Optional[_Iterable[_Union[FeatureColumn, _Mapping]]] = ..., row_bytes: _Optional[int] = ...) -> None: ...

class DescribeVerticalResponse(_message.Message):
    __slots__ = ("vertical", "tasks", "budget_ms", "max_candidates", "blocks", "schema_hash", "schema_json", "model", "tiers", "verticals")
    VERTICAL_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    VERTICALS_FIELD_NUMBER: _ClassVar[int]
    vertical: str
    tasks: _containers.RepeatedScalarFieldContainer[str]
    budget_ms: float
    max_candidates: int
    blocks: _containers.RepeatedCompositeFieldContainer[BlockLayout]
    schema_hash: str
    schema_json: str
    model: ModelVersion
    tiers: _containers.RepeatedScalarFieldContainer[Tier]
    verticals: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, vertical: _Optional[str] = ..., tasks: _Optional[_Iterable[str]] = ..., budget_ms: _Optional[float] = ..., max_candidates: _Optional[int] = ..., blocks: _Optional[_Iterable[_Union[BlockLayout, _Mapping]]] = ..., schema_hash: _Optional[str] = ..., schema_json: _Optional[str] = ..., model: _Optional[_Union[ModelVersion, _Mapping]] = ..., tiers: _Optional[_Iterable[_Union[Tier, str]]] = ..., verticals: _Optional[_Iterable[str]] = ...) -> None: ...
