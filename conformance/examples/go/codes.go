package levada

// Code is the number of an error. Codes below 60000 come from the server, the others are raised by this client.
type Code uint16

// The codes of section 10.2 of the specification. Names of codes are CamelCase here and UPPER_CASE in Error.Name.
const (
	CodeInvalidArgument        Code = 100   // an argument is out of range or malformed
	CodeInvalidName            Code = 101   // a name must match `[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}`
	CodeTooLarge               Code = 102   // a message or batch is over the limit
	CodeMalformedBatch         Code = 103   // a batch does not follow the format
	CodeChecksumMismatch       Code = 104   // a batch was damaged on its way; nothing was stored
	CodeUnauthenticated        Code = 200   // authenticate first
	CodeAuthFailed             Code = 201   // unknown user or wrong secret
	CodePermissionDenied       Code = 202   // the user may not do this
	CodeTokenExpired           Code = 203   // the token or ticket has expired or was revoked
	CodeTlsRequired            Code = 204   // this server takes credentials over TLS only
	CodeAuthBusy               Code = 205   // too many password checks are waiting
	CodeStreamNotFound         Code = 300   // no such stream
	CodeTopicNotFound          Code = 301   // no such topic
	CodePartitionNotFound      Code = 302   // no such partition
	CodeUserNotFound           Code = 303   // no such user
	CodeTokenNotFound          Code = 304   // no such token
	CodeSubscriptionNotFound   Code = 305   // no such subscription on this connection
	CodeOffsetOutOfRange       Code = 306   // the offset is below the log's start or beyond its end
	CodeAlreadyExists          Code = 400   // it exists already
	CodeConflict               Code = 401   // the request contradicts the present state
	CodeSequenceGap            Code = 402   // a batch before this one is missing; resend from `expected`
	CodeDuplicateUnknownOffset Code = 403   // the batch was appended earlier, too long ago to tell its offset
	CodeLogTruncated           Code = 404   // the log lost its end since this position was read
	CodeUnknownProducer        Code = 405   // the partition does not know this producer's earlier batches; take a new epoch
	CodeOverloaded             Code = 500   // the server is busy; try again
	CodeTooManyRequests        Code = 501   // too many unanswered requests on this connection
	CodeTooManySubscriptions   Code = 502   // too many subscriptions on this connection
	CodeTooManyConnections     Code = 503   // too many connections
	CodeDiskFull               Code = 504   // the disk is full; reads go on
	CodeRequestTimeout         Code = 600   // the server could not finish in time
	CodeShuttingDown           Code = 601   // the server is shutting down
	CodePartitionReadOnly      Code = 602   // the partition takes no appends
	CodePartitionUnavailable   Code = 603   // the partition is not open
	CodeAppendUnknown          Code = 604   // the append failed after it was accepted; retry with the same sequence
	CodeProtocolError          Code = 700   // a frame does not follow the protocol
	CodeUnknownKind            Code = 701   // the server does not know this kind of request
	CodeUnsupportedVersion     Code = 800   // no protocol version in common
	CodeUnsupported            Code = 801   // this server cannot do that
	CodeUnsupportedFormat      Code = 802   // a stored batch has a format or codec this client did not declare
	CodeFenced                 Code = 900   // a newer epoch of this producer has taken over
	CodeCorruptBatch           Code = 1000  // stored bytes are damaged
	CodeInternal               Code = 1100  // an invariant of the server does not hold; its log says more
	CodeClientUsage            Code = 60000 // a call or option is wrong
	CodeConnectFailed          Code = 60001 // the server could not be reached
	CodeConnectionLost         Code = 60002 // the connection ended before the answer came
	CodeClientTimeout          Code = 60003 // no answer in time
	CodeDeliveryTimeout        Code = 60004 // the batch was not acknowledged in time; whether it was appended is unknown
	CodeCancelled              Code = 60005 // the caller gave up waiting
	CodeClosed                 Code = 60006 // the client, producer or consumer is closed
	CodeForked                 Code = 60007 // the handle belongs to the parent process
	CodeQueueFull              Code = 60008 // the producer's buffer is full
	CodeBadFrame               Code = 60009 // the server sent a frame that does not follow the protocol
	CodeTlsFailed              Code = 60010 // the TLS handshake failed
	CodeConcurrentCall         Code = 60011 // another call of this kind is under way on this consumer
	CodeClientInternal         Code = 60012 // an invariant of the client does not hold
	CodeCredentialsUnreadable  Code = 60013 // a token or context file cannot be read
)

// codeNames are the names of the codes; what is missing is newer than this client.
var codeNames = map[Code]string{
	CodeInvalidArgument:        "INVALID_ARGUMENT",
	CodeInvalidName:            "INVALID_NAME",
	CodeTooLarge:               "TOO_LARGE",
	CodeMalformedBatch:         "MALFORMED_BATCH",
	CodeChecksumMismatch:       "CHECKSUM_MISMATCH",
	CodeUnauthenticated:        "UNAUTHENTICATED",
	CodeAuthFailed:             "AUTH_FAILED",
	CodePermissionDenied:       "PERMISSION_DENIED",
	CodeTokenExpired:           "TOKEN_EXPIRED",
	CodeTlsRequired:            "TLS_REQUIRED",
	CodeAuthBusy:               "AUTH_BUSY",
	CodeStreamNotFound:         "STREAM_NOT_FOUND",
	CodeTopicNotFound:          "TOPIC_NOT_FOUND",
	CodePartitionNotFound:      "PARTITION_NOT_FOUND",
	CodeUserNotFound:           "USER_NOT_FOUND",
	CodeTokenNotFound:          "TOKEN_NOT_FOUND",
	CodeSubscriptionNotFound:   "SUBSCRIPTION_NOT_FOUND",
	CodeOffsetOutOfRange:       "OFFSET_OUT_OF_RANGE",
	CodeAlreadyExists:          "ALREADY_EXISTS",
	CodeConflict:               "CONFLICT",
	CodeSequenceGap:            "SEQUENCE_GAP",
	CodeDuplicateUnknownOffset: "DUPLICATE_UNKNOWN_OFFSET",
	CodeLogTruncated:           "LOG_TRUNCATED",
	CodeUnknownProducer:        "UNKNOWN_PRODUCER",
	CodeOverloaded:             "OVERLOADED",
	CodeTooManyRequests:        "TOO_MANY_REQUESTS",
	CodeTooManySubscriptions:   "TOO_MANY_SUBSCRIPTIONS",
	CodeTooManyConnections:     "TOO_MANY_CONNECTIONS",
	CodeDiskFull:               "DISK_FULL",
	CodeRequestTimeout:         "REQUEST_TIMEOUT",
	CodeShuttingDown:           "SHUTTING_DOWN",
	CodePartitionReadOnly:      "PARTITION_READ_ONLY",
	CodePartitionUnavailable:   "PARTITION_UNAVAILABLE",
	CodeAppendUnknown:          "APPEND_UNKNOWN",
	CodeProtocolError:          "PROTOCOL_ERROR",
	CodeUnknownKind:            "UNKNOWN_KIND",
	CodeUnsupportedVersion:     "UNSUPPORTED_VERSION",
	CodeUnsupported:            "UNSUPPORTED",
	CodeUnsupportedFormat:      "UNSUPPORTED_FORMAT",
	CodeFenced:                 "FENCED",
	CodeCorruptBatch:           "CORRUPT_BATCH",
	CodeInternal:               "INTERNAL",
	CodeClientUsage:            "CLIENT_USAGE",
	CodeConnectFailed:          "CONNECT_FAILED",
	CodeConnectionLost:         "CONNECTION_LOST",
	CodeClientTimeout:          "CLIENT_TIMEOUT",
	CodeDeliveryTimeout:        "DELIVERY_TIMEOUT",
	CodeCancelled:              "CANCELLED",
	CodeClosed:                 "CLOSED",
	CodeForked:                 "FORKED",
	CodeQueueFull:              "QUEUE_FULL",
	CodeBadFrame:               "BAD_FRAME",
	CodeTlsFailed:              "TLS_FAILED",
	CodeConcurrentCall:         "CONCURRENT_CALL",
	CodeClientInternal:         "CLIENT_INTERNAL",
	CodeCredentialsUnreadable:  "CREDENTIALS_UNREADABLE",
}

// Class is the kind of an error: what a caller may want to tell apart. The number is taken from the frame, so that
// a code newer than this client still has its class.
type Class uint8

// The classes of section 10.1.
const (
	ClassUsage       Class = 1
	ClassAuth        Class = 2
	ClassNotFound    Class = 3
	ClassConflict    Class = 4
	ClassQuota       Class = 5
	ClassTimeout     Class = 6
	ClassConnection  Class = 7
	ClassProtocol    Class = 8
	ClassUnsupported Class = 9
	ClassUnavailable Class = 10
	ClassFenced      Class = 11
	ClassCorrupt     Class = 12
	ClassCancelled   Class = 13
	ClassClosed      Class = 14
	ClassForked      Class = 15
	ClassInternal    Class = 16
)

var classNames = map[Class]string{
	ClassUsage:       "usage",
	ClassAuth:        "auth",
	ClassNotFound:    "not_found",
	ClassConflict:    "conflict",
	ClassQuota:       "quota",
	ClassTimeout:     "timeout",
	ClassConnection:  "connection",
	ClassProtocol:    "protocol",
	ClassUnsupported: "unsupported",
	ClassUnavailable: "unavailable",
	ClassFenced:      "fenced",
	ClassCorrupt:     "corrupt",
	ClassCancelled:   "cancelled",
	ClassClosed:      "closed",
	ClassForked:      "forked",
	ClassInternal:    "internal",
}

// clientErrors are the properties of the codes that this client raises by itself.
var clientErrors = map[Code]struct {
	class     Class
	retriable bool
}{
	CodeInvalidArgument:        {ClassUsage, false},
	CodeInvalidName:            {ClassUsage, false},
	CodeTooLarge:               {ClassUsage, false},
	CodeMalformedBatch:         {ClassUsage, false},
	CodeChecksumMismatch:       {ClassCorrupt, true},
	CodeUnauthenticated:        {ClassAuth, false},
	CodeAuthFailed:             {ClassAuth, false},
	CodePermissionDenied:       {ClassAuth, false},
	CodeTokenExpired:           {ClassAuth, false},
	CodeTlsRequired:            {ClassAuth, false},
	CodeAuthBusy:               {ClassUnavailable, true},
	CodeStreamNotFound:         {ClassNotFound, false},
	CodeTopicNotFound:          {ClassNotFound, false},
	CodePartitionNotFound:      {ClassNotFound, false},
	CodeUserNotFound:           {ClassNotFound, false},
	CodeTokenNotFound:          {ClassNotFound, false},
	CodeSubscriptionNotFound:   {ClassNotFound, false},
	CodeOffsetOutOfRange:       {ClassNotFound, false},
	CodeAlreadyExists:          {ClassConflict, false},
	CodeConflict:               {ClassConflict, false},
	CodeSequenceGap:            {ClassConflict, true},
	CodeDuplicateUnknownOffset: {ClassConflict, false},
	CodeLogTruncated:           {ClassConflict, false},
	CodeUnknownProducer:        {ClassConflict, true},
	CodeOverloaded:             {ClassUnavailable, true},
	CodeTooManyRequests:        {ClassQuota, true},
	CodeTooManySubscriptions:   {ClassQuota, false},
	CodeTooManyConnections:     {ClassQuota, true},
	CodeDiskFull:               {ClassUnavailable, true},
	CodeRequestTimeout:         {ClassTimeout, true},
	CodeShuttingDown:           {ClassUnavailable, true},
	CodePartitionReadOnly:      {ClassUnavailable, false},
	CodePartitionUnavailable:   {ClassUnavailable, true},
	CodeAppendUnknown:          {ClassUnavailable, true},
	CodeProtocolError:          {ClassProtocol, false},
	CodeUnknownKind:            {ClassUnsupported, false},
	CodeUnsupportedVersion:     {ClassUnsupported, false},
	CodeUnsupported:            {ClassUnsupported, false},
	CodeUnsupportedFormat:      {ClassUnsupported, false},
	CodeFenced:                 {ClassFenced, false},
	CodeCorruptBatch:           {ClassCorrupt, false},
	CodeInternal:               {ClassInternal, false},
	CodeClientUsage:            {ClassUsage, false},
	CodeConnectFailed:          {ClassConnection, true},
	CodeConnectionLost:         {ClassConnection, true},
	CodeClientTimeout:          {ClassTimeout, true},
	CodeDeliveryTimeout:        {ClassTimeout, false},
	CodeCancelled:              {ClassCancelled, false},
	CodeClosed:                 {ClassClosed, false},
	CodeForked:                 {ClassForked, false},
	CodeQueueFull:              {ClassQuota, true},
	CodeBadFrame:               {ClassProtocol, false},
	CodeTlsFailed:              {ClassConnection, false},
	CodeConcurrentCall:         {ClassConflict, false},
	CodeClientInternal:         {ClassInternal, false},
	CodeCredentialsUnreadable:  {ClassUsage, false},
}
