package imap

import "context"

// state is a set of the states in which a command is valid (RFC 9051 section 3).
type state int

const (
	stranger state = 1 << iota // not authenticated
	user                       // authenticated, no mailbox selected
	selected
	loggedIn = user | selected
	anyState = stranger | loggedIn
)

// only says where a command is valid.
func (in state) only() string {
	switch in {
	case stranger:
		return "This command is only valid before login"
	case selected:
		return "This command is only valid when a mailbox is selected"
	}
	return "This command is only valid after login"
}

func (s *session) state() state {
	switch {
	case s.account == nil:
		return stranger
	case s.box == nil:
		return user
	}
	return selected
}

// form tells whether a command has a form with UID in front.
type form int

const (
	plain   form = iota // no
	numbers             // yes; without it, its message numbers keep EXPUNGE away
	removes             // yes; it may be answered with EXPUNGE either way
)

type command struct {
	in   state
	form form
	run  func(s *session, ctx context.Context, c *call) error
}

// commands has a row for each command; its method is in the file of its family.
var commands = map[string]command{
	// capability.go, login.go, compress.go
	"CAPABILITY":     {anyState, plain, (*session).cmdCapability},
	"NOOP":           {anyState, plain, (*session).cmdNoop},
	"LOGOUT":         {anyState, plain, (*session).cmdLogout},
	"ID":             {anyState, plain, (*session).cmdID},
	"STARTTLS":       {stranger, plain, (*session).cmdStartTLS},
	"AUTHENTICATE":   {stranger, plain, (*session).cmdAuthenticate},
	"LOGIN":          {stranger, plain, (*session).cmdLogin},
	"UNAUTHENTICATE": {loggedIn, plain, (*session).cmdUnauthenticate},
	"ENABLE":         {loggedIn, plain, (*session).cmdEnable},
	"COMPRESS":       {loggedIn, plain, (*session).cmdCompress},
	// mailboxes.go, list.go, metadata.go, status.go, quota.go
	"CREATE":      {loggedIn, plain, (*session).cmdCreate},
	"DELETE":      {loggedIn, plain, (*session).cmdDelete},
	"RENAME":      {loggedIn, plain, (*session).cmdRename},
	"SUBSCRIBE":   {loggedIn, plain, (*session).cmdSubscribe},
	"UNSUBSCRIBE": {loggedIn, plain, (*session).cmdUnsubscribe},
	"LIST":        {loggedIn, plain, (*session).cmdList},
	"LSUB":        {loggedIn, plain, (*session).cmdLSub},
	"NAMESPACE":   {loggedIn, plain, (*session).cmdNamespace},
	"GETMETADATA": {loggedIn, plain, (*session).cmdGetMetadata},
	"SETMETADATA": {loggedIn, plain, (*session).cmdSetMetadata},
	"STATUS":      {loggedIn, plain, (*session).cmdStatus},
	// acl.go
	"SETACL":       {loggedIn, plain, (*session).cmdSetACL},
	"DELETEACL":    {loggedIn, plain, (*session).cmdDeleteACL},
	"GETACL":       {loggedIn, plain, (*session).cmdGetACL},
	"LISTRIGHTS":   {loggedIn, plain, (*session).cmdListRights},
	"MYRIGHTS":     {loggedIn, plain, (*session).cmdMyRights},
	"GETQUOTA":     {loggedIn, plain, (*session).cmdGetQuota},
	"GETQUOTAROOT": {loggedIn, plain, (*session).cmdGetQuotaRoot},
	"SETQUOTA":     {loggedIn, plain, (*session).cmdSetQuota},
	// select.go, expunge.go, notify.go, idle.go
	"SELECT":   {loggedIn, plain, (*session).cmdSelect},
	"EXAMINE":  {loggedIn, plain, (*session).cmdExamine},
	"UNSELECT": {selected, plain, (*session).cmdUnselect},
	"CLOSE":    {selected, plain, (*session).cmdClose},
	"CHECK":    {selected, plain, (*session).cmdNoop},
	"NOTIFY":   {loggedIn, plain, (*session).cmdNotify},
	"IDLE":     {loggedIn, plain, (*session).cmdIdle},
	// append.go, store.go, copy.go, expunge.go
	"APPEND":  {loggedIn, plain, (*session).cmdAppend},
	"REPLACE": {selected, removes, (*session).cmdReplace},
	"STORE":   {selected, numbers, (*session).cmdStore},
	"COPY":    {selected, removes, (*session).cmdCopy},
	"MOVE":    {selected, removes, (*session).cmdMove},
	"EXPUNGE": {selected, removes, (*session).cmdExpunge},
	// urlauth.go
	"RESETKEY":   {loggedIn, plain, (*session).cmdResetKey},
	"GENURLAUTH": {loggedIn, plain, (*session).cmdGenURLAuth},
	"URLFETCH":   {loggedIn, plain, (*session).cmdURLFetch},
	// fetch.go, search.go, multisearch.go, sort.go, thread.go
	"FETCH":   {selected, numbers, (*session).cmdFetch},
	"SEARCH":  {selected, numbers, (*session).cmdSearch},
	"ESEARCH": {loggedIn, numbers, (*session).cmdESearch},
	"SORT":    {selected, numbers, (*session).cmdSort},
	"THREAD":  {selected, numbers, (*session).cmdThread},
	// context.go
	"CANCELUPDATE": {selected, plain, (*session).cmdCancelUpdate},
}
